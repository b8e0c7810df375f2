package compact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// badSectors is a disk that does not give the bytes of some files.
type badSectors struct {
	vfs.FS
	bad *sync.Map // of names
}

func (d badSectors) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	if _, bad := d.bad.Load(name); err == nil && bad {
		return badFile{f}, nil
	}
	return f, err
}

type badFile struct{ vfs.File }

func (badFile) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// blobOf finds the file of the blob that holds text.
func (p *fixture) blobOf(text string) string {
	p.t.Helper()
	found := ""
	err := filepath.WalkDir(filepath.Join(p.dir, "r", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if bytes.Contains(body, []byte(text)) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		p.t.Fatalf("blob of %q: got %q, %v", text, found, err)
	}
	return found
}

func (p *fixture) scrub(share float64) compact.Job {
	p.t.Helper()
	job, err := p.engine.SubmitScrub(context.Background(), p.repo, "tester", share, compact.WhenNow)
	if err != nil {
		p.t.Fatal(err)
	}
	if job, err = p.engine.Await(context.Background(), p.repo, job.ID); err != nil {
		p.t.Fatal(err)
	}
	return job
}

// A scrub goes on behind an item that the disk does not give, and reports it: it is what scrubs are for.
func TestScrubGoesOnBehindBadSector(t *testing.T) {
	var bad sync.Map
	p := newFixture(t, func(so *datadir.Options, _ *compact.Options) { so.FS = badSectors{vfs.OS(), &bad} })
	for i := range 4 {
		p.put(fmt.Sprintf("k%d", i), fmt.Appendf(nil, "body %d", i))
	}
	bad.Store(p.blobOf("body 1"), true)
	flipped := p.blobOf("body 3")
	if err := os.WriteFile(flipped, bytes.Replace(read(t, flipped), []byte("body 3"), []byte("BODY 3"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	done := p.scrub(0)
	if done.State != compact.Done || done.Bad != 2 || fmt.Sprint(done.Damaged) != "[k1 k3]" || done.Progress.Operations != 4 {
		t.Errorf("scrub: got %+v, want k1 and k3 of 4 items", done)
	}
	for key, marked := range map[string]bool{"k1": false, "k3": true} {
		entry, err := p.repo.Entry(key)
		if err != nil || (entry.Item.Flags&index.FlagDamaged != 0) != marked {
			t.Errorf("%s: got %+v, %v, want marked %v", key, entry, err, marked)
		}
	}
	if c := p.repo.Coverage(); c.Items != 3 || !c.Oldest.Equal(p.repo.Created()) {
		t.Errorf("what was read: got %+v, want all but k1", c)
	}
	if _, err := p.get("k3"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("k3: got %v, want ErrCorrupt", err)
	}
	// One that rolls does not stop there for ever either.
	var seen int64
	for range 4 {
		seen += p.scrub(0.25).Progress.Operations
	}
	if seen < 4 {
		t.Errorf("four scrubs of a quarter: got %d items, want all", seen)
	}
	bad.Clear()
	p.want("k1", "body 1")
	before := time.Now().Add(p.offset).Truncate(time.Millisecond)
	p.scrub(0)
	if c := p.repo.Coverage(); c.Items != 4 || c.Oldest.Before(before) || !c.Since.Equal(c.Oldest) {
		t.Errorf("what was read: got %+v, want all since %v", c, before)
	}
}

// A disk that gives nothing at all ends the scrub, which says so and what it met.
func TestScrubOfDeadDisk(t *testing.T) {
	var bad sync.Map
	p := newFixture(t, func(so *datadir.Options, _ *compact.Options) { so.FS = badSectors{vfs.OS(), &bad} })
	for i := range 150 {
		key := fmt.Sprintf("k%03d", i)
		p.put(key, []byte(key))
	}
	err := filepath.WalkDir(filepath.Join(p.dir, "r", "blobs"), func(path string, _ fs.DirEntry, err error) error {
		bad.Store(path, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.scrub(0); got.State != compact.Failed || got.Fault == nil || got.Bad != 99 || len(got.Damaged) != 99 {
		t.Errorf("scrub: got %+v, want it failed behind 99 items", got)
	}
	bad.Clear()
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// A scrub looks at marked items too: who mended the bytes below the server gets the item back.
func TestScrubTakesMarksBack(t *testing.T) {
	p := newFixture(t, nil)
	p.put("k", []byte("the body"))
	blob := p.blobOf("the body")
	whole := read(t, blob)
	if err := os.WriteFile(blob, bytes.Replace(whole, []byte("body"), []byte("BODY"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.scrub(0); got.Bad != 1 {
		t.Fatalf("scrub of damaged bytes: got %+v, want one bad", got)
	}
	if err := os.WriteFile(blob, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.scrub(0); got.Bad != 0 {
		t.Errorf("scrub of mended bytes: got %+v, want none bad", got)
	}
	p.want("k", "the body")
}

// countingDisk counts the bytes that are read.
type countingDisk struct {
	vfs.FS
	read *atomic.Int64
}

func (d countingDisk) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	return countingFile{f, d.read}, err
}

type countingFile struct {
	vfs.File
	read *atomic.Int64
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.read.Add(int64(n))
	return n, err
}

// The limits hold inside an item too: a large one is not read in a burst when its turn has come, and clients that
// arrive meanwhile are given way to.
func TestScrubIsPacedInsideItems(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		rate int64
		size int64
		at   time.Duration
		want int64 // bytes read by then
	}{
		{"rate", 4 * mib, 12 * mib, time.Second, 8 * mib}, // a second's worth comes at once
		{"clients", 0, 72 * mib, 500 * time.Millisecond, 48 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var read atomic.Int64
				p := newFixture(t, func(so *datadir.Options, o *compact.Options) {
					so.FS = countingDisk{vfs.OS(), &read}
					o.Rate = c.rate
					if c.rate == 0 {
						o.Busy = func() int { return 1 }
					}
				})
				p.put("a", make([]byte, c.size))
				before := read.Load()
				start := time.Now()
				job, err := p.engine.SubmitScrub(context.Background(), p.repo, "tester", 0, compact.WhenNow)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Until(start.Add(c.at)))
				if got := read.Load() - before; got < c.want-mib || got > c.want+mib {
					t.Errorf("read after %s: got %d bytes, want about %d", c.at, got, c.want)
				}
				if job, err = p.engine.Job(p.repo, job.ID); err != nil || job.Progress.Read < c.want-mib || job.Progress.Read > c.want+mib {
					t.Errorf("progress after %s: got %+v, %v, want about %d bytes", c.at, job.Progress, err, c.want)
				}
				time.Sleep(time.Minute)
				if job, err = p.engine.Job(p.repo, job.ID); err != nil || job.State != compact.Done || job.Progress.Read != c.size {
					t.Errorf("a minute later: got %+v, %v, want it done", job, err)
				}
			})
		})
	}
}

// TestEndsAreTold: the end of each background job is told, with its fault, unless somebody has cancelled it.
func TestEndsAreTold(t *testing.T) {
	var bad sync.Map
	ended := make(chan string, 9)
	p := newFixture(t, func(so *datadir.Options, o *compact.Options) {
		so.FS = badSectors{vfs.OS(), &bad}
		o.Ended = func(r *repo.Repository, job compact.Job) {
			ended <- fmt.Sprintf("%s %s %s %v", r.Name(), job.Kind, job.State, job.Fault != nil)
		}
	})
	for i := range 150 {
		p.put(fmt.Sprintf("k%03d", i), []byte("content"))
	}
	p.scrub(1)
	later, err := p.engine.SubmitScrub(t.Context(), p.repo, "tester", 1, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.engine.Cancel(t.Context(), p.repo, later.ID); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(p.dir, "r", "blobs"), func(path string, _ fs.DirEntry, err error) error {
		bad.Store(path, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.scrub(1)
	bad.Clear()
	for _, want := range []string{"r scrub done false", "r scrub failed true"} {
		if got := <-ended; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if len(ended) > 0 {
		t.Errorf("one more: %q", <-ended)
	}
}

// TestEndsAreCounted: background jobs that ended are counted by kind and result.
func TestEndsAreCounted(t *testing.T) {
	var bad sync.Map
	ended := make(chan bool, 9)
	p := newFixture(t, func(so *datadir.Options, o *compact.Options) {
		so.FS = badSectors{vfs.OS(), &bad}
		o.Ended = func(*repo.Repository, compact.Job) { ended <- true }
	})
	for i := range 150 {
		p.put(fmt.Sprintf("k%03d", i), []byte("content"))
	}
	count := func(result string) float64 {
		registry := prometheus.NewRegistry()
		registry.MustRegister(p.engine.Collector())
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				if family.GetName() == "packhouse_jobs_ended_total" && m.GetLabel()[0].GetValue() == "scrub" && m.GetLabel()[1].GetValue() == result {
					return m.GetCounter().GetValue()
				}
			}
		}
		t.Fatalf("there is no series of scrubs that are %s", result)
		return 0
	}
	if done, failed := count("done"), count("failed"); done != 0 || failed != 0 {
		t.Errorf("at the beginning: %v done and %v failed", done, failed)
	}
	p.scrub(1)
	<-ended
	err := filepath.WalkDir(filepath.Join(p.dir, "r", "blobs"), func(path string, _ fs.DirEntry, err error) error {
		bad.Store(path, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.scrub(1)
	<-ended
	bad.Clear()
	if done, failed := count("done"), count("failed"); done != 1 || failed != 1 {
		t.Errorf("%v done and %v failed, want one of each", done, failed)
	}
}
