package compact_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Of two plans that delete the same source one wins; the other says what changed, and changes nothing.
func TestOverlappingPlans(t *testing.T) {
	p := newPlace(t, func(_ *datadir.Options, o *compact.Options) { o.Workers = 8 })
	var won, lost int
	for round := range 20 {
		p.put("a", []byte("aAAAa"))
		p.put("b", []byte("bBBBb"))
		plan := func(n int) []compact.Operation {
			return []compact.Operation{{
				Ranges: []compact.Range{{Key: "b", Offset: 1, Length: 2}, {Key: "a", Offset: int64(n), Length: 3}},
				Target: fmt.Sprintf("out%d", n), Deletes: []string{"a", fmt.Sprintf("out%d", 1-n)},
			}}
		}
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for n := range errs {
			wg.Go(func() { _, errs[n] = p.run(plan(n)...) })
		}
		wg.Wait()
		slices.SortFunc(errs, func(a, b error) int { return len(fmt.Sprint(a)) - len(fmt.Sprint(b)) })
		if errs[0] != nil {
			t.Fatalf("round %d: both failed: %v, %v", round, errs[0], errs[1])
		}
		var e *compact.PlanError
		switch {
		case errs[1] == nil:
			t.Fatalf("round %d: both succeeded", round)
		case errors.Is(errs[1], repo.ErrNotFound): // it began when the other was done
			won++
		case !errors.Is(errs[1], repo.ErrConflict) || !errors.As(errs[1], &e):
			t.Fatalf("round %d: got %v, want ErrConflict", round, errs[1])
		case e.Key != "a" || e.Operation != 0:
			t.Errorf("round %d: got %+v, want operation 0 to name a", round, e)
		default:
			lost++
		}
		if all := p.contents(); len(all) != 2 || all["b"] != "bBBBb" {
			t.Fatalf("round %d: contents %q", round, all)
		}
		for key := range p.contents() {
			p.delete(key)
		}
	}
	p.wantNoLeaks()
	t.Logf("refused before reading: %d, at the commit: %d", won, lost)
}

// A source that is overwritten while the plan reads it fails the plan, whether it was to be deleted or not.
func TestSourceChangesMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name    string
		deletes []string
		change  func(p *place)
	}{
		{"overwritten", nil, func(p *place) { p.put("a", []byte("other")) }},
		{"overwritten, to be deleted", []string{"a"}, func(p *place) { p.put("a", []byte("other")) }},
		{"deleted", nil, func(p *place) { p.delete("a") }},
		{"deleted, to be deleted", []string{"a"}, func(p *place) { p.delete("a") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p *place
			var once sync.Once
			body := strings.Repeat("x", 1<<20)
			p = newPlace(t, func(so *datadir.Options, _ *compact.Options) {
				// The blobs of the plan are placed by links: after reading, before the commit.
				so.FS = onLink{FS: vfs.OS(), p: &p, once: &once, change: c.change}
			})
			p.put("a", []byte(body))
			p.put("b", []byte("b"))
			armed.Store(true)
			_, err := p.run(compact.Operation{
				Ranges: []compact.Range{{Key: "b", Offset: 0, Length: 1}, {Key: "a", Offset: 0, Length: 1 << 19}}, Target: "t", Deletes: c.deletes,
			})
			armed.Store(false)
			var e *compact.PlanError
			if !errors.Is(err, repo.ErrConflict) || !errors.As(err, &e) || e.Key != "a" || e.Operation != 0 || e.Range != 1 {
				t.Errorf("run: got %v, want ErrConflict for range 1 (a)", err)
			}
			if _, err := p.get("t"); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("output: got %v, want ErrNotFound", err)
			}
			p.wantNoLeaks()
		})
	}
}

// Content that a client uploads under its name while the plan writes the same is kept.
func TestUploadWinsRace(t *testing.T) {
	var p *place
	var once sync.Once
	content := "AAA"
	sum := sha256.Sum256([]byte(content))
	key := "packs/" + hex.EncodeToString(sum[:])
	p = newPlace(t, func(so *datadir.Options, _ *compact.Options) {
		so.FS = onLink{FS: vfs.OS(), p: &p, once: &once, change: func(p *place) { p.put(key, []byte(content)) }}
	})
	p.put("a", []byte("aAAAa"))
	armed.Store(true)
	got := p.mustRun(compact.Operation{
		Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Deletes: []string{"a"},
		Naming: compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs"},
	})
	armed.Store(false)
	if got[0].Key != key || !got[0].Existed {
		t.Errorf("outcome: got %+v, want %s, which existed", got[0], key)
	}
	p.wantKeys(key)
	p.wantNoLeaks()
}

// Bytes that stand under a digest they do not have are replaced, not trusted.
func TestWrongContentUnderItsName(t *testing.T) {
	p := newPlace(t, nil)
	sum := sha256.Sum256([]byte("AAA"))
	key := "packs/" + hex.EncodeToString(sum[:])
	p.put("a", []byte("aAAAa"))
	p.put(key, []byte("not AAA"))
	op := compact.Operation{
		Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}}, Naming: compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs"},
	}
	if got := p.mustRun(op); got[0].Existed {
		t.Errorf("outcome: got %+v, want a new item", got[0])
	}
	p.want(key, "AAA")
	p.wantNoLeaks()
}

// Who reads a source while a plan deletes it reads it to the end; who uploads is not in the way.
func TestClientsGoOnMeanwhile(t *testing.T) {
	p := newPlace(t, nil)
	const size = 1 << 20
	body := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n)}, size) }
	var ops []compact.Operation
	for n := range 8 {
		key := fmt.Sprintf("packs/%d", n)
		p.put(key, body(n))
		ops = append(ops, compact.Operation{
			Ranges: []compact.Range{{Key: key, Offset: 0, Length: size / 2}}, Target: key + ".new", Deletes: []string{key},
		})
	}
	var readers sync.WaitGroup
	opened := make(chan struct{}, 8)
	begin := make(chan struct{})
	for n := range 8 {
		readers.Go(func() {
			object, err := p.a.Open(context.Background(), fmt.Sprintf("packs/%d", n))
			opened <- struct{}{}
			if err != nil {
				t.Errorf("open %d: %v", n, err)
				return
			}
			defer object.Close()
			<-begin
			got, err := io.ReadAll(io.NewSectionReader(object, 0, object.Size()))
			if err != nil || !bytes.Equal(got, body(n)) {
				t.Errorf("read %d: got %d bytes, %v", n, len(got), err)
			}
		})
	}
	for range 8 {
		<-opened
	}
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for i := range 10 {
				p.put(fmt.Sprintf("new/%d/%d", n, i), []byte("new"))
			}
		})
	}
	p.mustRun(ops...)
	p.emptyTrash()
	close(begin)
	readers.Wait()
	writers.Wait()
	for n := range 8 {
		p.want(fmt.Sprintf("packs/%d.new", n), string(body(n)[:size/2]))
	}
	if c := p.repo.Usage().Counters; c.Items != 48 || c.Bytes != 8*size/2+40*3 {
		t.Errorf("usage: got %+v", c)
	}
	p.wantNoLeaks()
}

// Thousands of deletions are one transaction.
func TestManyDeletions(t *testing.T) {
	var commits atomic.Int64
	p := newPlace(t, func(so *datadir.Options, _ *compact.Options) {
		so.Index.BeforeCommit = func() error { commits.Add(1); return nil }
	})
	const n = 20_000
	ops := make([]compact.Operation, n)
	for i := range ops {
		ops[i].Deletes = []string{fmt.Sprintf("packs/%02x/%064d", i%256, i)}
	}
	for i := range 300 {
		p.put(ops[i].Deletes[0], []byte("x"))
	}
	p.put("kept", []byte("kept"))
	p.emptyTrash()
	before := commits.Load()
	got := p.mustRun(ops...)
	if did := commits.Load() - before; did > 10 { // the plan's one, and the reclaimer's
		t.Errorf("commits: got %d, want a few", did)
	}
	if len(got) != n || !got[n-1].Deleted[0] {
		t.Errorf("outcomes: got %d", len(got))
	}
	p.wantKeys("kept")
}

// A plan beyond what is kept in memory works as any other, and its file is gone.
func TestLargePlan(t *testing.T) {
	dir := t.TempDir()
	p := newPlace(t, func(_ *datadir.Options, o *compact.Options) { o.TempDir = dir })
	p.put("a", []byte("0123456789"))
	const operations, ranges = 20, 50_000
	var ops []compact.Operation
	for i := range operations {
		op := compact.Operation{Target: fmt.Sprintf("t%d", i)}
		for j := range ranges {
			op.Ranges = append(op.Ranges, compact.Range{Key: "a", Offset: int64((i + j) % 10), Length: 1})
		}
		ops = append(ops, op)
	}
	ops = append(ops, compact.Operation{Deletes: []string{"a"}})
	p.mustRun(ops...)
	want := strings.Repeat("3456789012", ranges/10)
	p.want("t3", want)
	p.want("t13", want)
	if names, err := p.repo.Files(repo.JobsFolder); err != nil || len(names) > 0 {
		t.Errorf("plans: got %q, %v", names, err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("temporary files: got %q, want none", left)
	}
}
