package repo_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
)

// vgerRepository makes one whose clients' compactions have two halves, on a clock that the test moves.
func vgerRepository(t *testing.T, change func(*datadir.Options)) (*datadir.Set, *repo.Access, *atomic.Int64) {
	t.Helper()
	passed := new(atomic.Int64)
	s := newSet(t, func(o *datadir.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
		if change != nil {
			change(o)
		}
	})
	r, err := s.Create(ctx, "r", "vger")
	if err != nil {
		t.Fatal(err)
	}
	return s, r.As(repo.Principal{Name: "w", Address: "192.0.2.1"}), passed
}

// compaction commits the first half of one, with sources that stay and items that are unused.
func compaction(t *testing.T, a *repo.Access, id string, sources, unused []string) (*repo.Compaction, repo.Opened) {
	t.Helper()
	k, err := a.BeginCompaction(id, true)
	if err != nil {
		t.Fatal(err)
	}
	done, err := a.CommitOpen(ctx, repo.Batch{Open: &repo.OpenPlan{Compaction: k, Sources: sources, Unused: unused}})
	if err != nil {
		t.Fatal(err)
	}
	return k, done
}

// readIndex is what a client does before it compacts.
func readIndex(t *testing.T, a *repo.Access) {
	t.Helper()
	at := a.ReadTime()
	if _, err := get(a, "index"); err != nil {
		t.Fatal(err)
	}
	a.IndexRead("index", at)
}

// TestKeptGivesWayToTheDisk fills a real file system with packs, some of which are kept: they go, the oldest first,
// before an upload is refused, also when it is another repository's.
func TestKeptGivesWayToTheDisk(t *testing.T) {
	const mib = 1 << 20
	s, a, passed := vgerRepository(t, func(o *datadir.Options) {
		o.Dir = smallDisk(t, 64*mib)
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 4 * mib} }
	})
	r := a.Repository()
	mustPut(t, a, "index", "1")
	body := strings.Repeat("x", mib)
	for i := range 20 {
		mustPut(t, a, fmt.Sprintf("packs/unused%02d", i), body)
	}
	readIndex(t, a)
	for i := range 20 {
		passed.Add(int64(time.Second))
		if _, done := compaction(t, a, "unused", nil, []string{fmt.Sprintf("packs/unused%02d", i)}); done.Removed != 1 {
			t.Fatalf("pack %d is not removed", i)
		}
	}
	other, err := s.Create(ctx, "other", "vger")
	if err != nil {
		t.Fatal(err)
	}
	filler := other.As(repo.Principal{Name: "w"})
	n, last := 0, r.Usage().KeptItems
	for ; ; n++ {
		_, err := put(filler, fmt.Sprintf("packs/%02d", n), body)
		if errors.Is(err, repo.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kept := r.Usage().KeptItems
		if kept < last {
			// Those that are left are the newest.
			for i := range 20 {
				_, err := repo.IndexOf(r).Kept(fmt.Sprintf("packs/unused%02d", i))
				if (err == nil) != (int64(i) >= 20-kept) {
					t.Fatalf("with %d kept, pack %d: %v", kept, i, err)
				}
			}
		}
		last = kept
	}
	if u := r.Usage(); u.KeptItems != 0 || n < 50 {
		t.Errorf("refused after %d uploads, %d packs are kept still", n, u.KeptItems)
	}
}

// TestKeptIsServedReadOnly: where nothing can be written any more, what is kept is served as it is.
func TestKeptIsServedReadOnly(t *testing.T) {
	var broken atomic.Bool
	_, a, _ := vgerRepository(t, func(o *datadir.Options) {
		o.Index = index.Options{BeforeCommit: func() error {
			if broken.Load() {
				return errors.New("the disk is gone")
			}
			return nil
		}}
	})
	mustPut(t, a, "index", "1")
	mustPut(t, a, "packs/a", "content")
	readIndex(t, a)
	compaction(t, a, "unused", nil, []string{"packs/a"})
	broken.Store(true)
	if _, err := put(a, "x", "y"); !errors.Is(err, repo.ErrReadOnly) {
		t.Fatalf("not read-only: %v", err)
	}
	if body, err := get(a, "packs/a"); err != nil || body != "content" {
		t.Errorf("got %q, %v", body, err)
	}
	if entry, err := a.Lookup(ctx, "packs/a"); err != nil || entry.Item.Size != 7 {
		t.Errorf("look up: %+v, %v", entry, err)
	}
}

// TestKeptExpires: the file goes when the time is over, and not before; after a restart too.
func TestKeptExpires(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Minute, 5 * time.Hour, 72 * time.Hour} {
		t.Run(grace.String(), func(t *testing.T) {
			dir := memoryDir(t)
			options := func(o *datadir.Options) {
				o.Dir = dir
				o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, CompactGrace: grace, Grace: 2 * time.Hour} }
			}
			want := grace
			switch grace {
			case 0:
				want = repo.DefaultCompactGrace
			case time.Minute:
				want = 2 * time.Hour // the grace time is longer
			}
			s, a, passed := vgerRepository(t, options)
			mustPut(t, a, "index", "1")
			mustPut(t, a, "packs/a", "content")
			readIndex(t, a)
			compaction(t, a, "unused", nil, []string{"packs/a"})
			kept := func(r *repo.Repository) bool {
				if err := r.ReclaimSome(ctx); err != nil {
					t.Fatal(err)
				}
				_, err := repo.IndexOf(r).Kept("packs/a")
				return err == nil
			}
			passed.Add(int64(want - time.Minute))
			if !kept(a.Repository()) {
				t.Error("gone before its time")
			}
			passed.Add(int64(2 * time.Minute))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{Now: func() time.Time { return time.Now().Add(want + time.Minute) }}})
			defer again.Close()
			r, err := again.Get(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			if kept(r) {
				t.Error("kept after its time")
			}
			if files, _ := blobFiles(t, filepath.Join(dir, "r")); files != 1 {
				t.Errorf("%d blobs, want that of the index alone", files)
			}
		})
	}
}

// TestRebuildBringsBothSides: without an index nobody knows what a compaction had removed, so that both sides are
// there; with a snapshot from while the plan was open, and from when the sources were kept.
func TestRebuildBringsBothSides(t *testing.T) {
	for _, when := range []string{"never", "open", "kept"} {
		t.Run("snapshot "+when, func(t *testing.T) {
			dir := memoryDir(t)
			s, a, _ := vgerRepository(t, func(o *datadir.Options) { o.Dir = dir })
			r := a.Repository()
			snapshot := func(at string) {
				if at == when {
					if _, err := r.Snapshot(ctx, 1); err != nil {
						t.Fatal(err)
					}
				}
			}
			mustPut(t, a, "index", "1")
			for _, key := range []string{"packs/source", "packs/output", "packs/unused"} {
				mustPut(t, a, key, key)
			}
			readIndex(t, a)
			mustPut(t, a, "locks/l", "{}")
			k, _ := compaction(t, a, "job", []string{"packs/source"}, []string{"packs/unused"})
			k.Answering()
			snapshot("open")
			mustPut(t, a, "index", "2")
			if u := r.Usage(); u.Plans != 0 || u.KeptItems != 2 {
				t.Fatalf("not proven: %+v", u.Counters)
			}
			snapshot("kept")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := recovery.Rebuild(ctx, filepath.Join(dir, "r"), recovery.RebuildOptions{Replace: true}); err != nil {
				t.Fatal(err)
			}
			again := datadir.Open(datadir.Options{Dir: dir})
			defer again.Close()
			r, err := again.Get(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			b := r.As(repo.Principal{Name: "w"})
			for _, key := range []string{"packs/source", "packs/output", "packs/unused"} {
				if body, err := get(b, key); err != nil || body != key {
					t.Errorf("%s: got %q, %v", key, body, err)
				}
			}
			if got := list(t, b, "packs", true); !slices.Equal(got, []string{"packs/output", "packs/source", "packs/unused"}) {
				t.Errorf("listed: %q", got)
			}
			report, err := repo.IndexOf(r).Check(ctx)
			if err != nil || len(report.Problems) > 0 {
				t.Errorf("check: %q, %v", report.Problems, err)
			}
		})
	}
}

// TestChangeClock: what was not visible when a read began is never earlier than it, whatever the system's clock does.
func TestChangeClock(t *testing.T) {
	_, a, passed := vgerRepository(t, nil)
	mustPut(t, a, "index", "1")
	for i, step := range []time.Duration{0, 0, -time.Hour, 0, time.Second, 0, -time.Minute} {
		passed.Add(int64(step))
		before, after := fmt.Sprintf("packs/before%d", i), fmt.Sprintf("packs/after%d", i)
		mustPut(t, a, before, "x")
		readIndex(t, a)
		mustPut(t, a, after, "x")
		if _, done := compaction(t, a, fmt.Sprint(i), nil, []string{before, after}); done.Removed != 1 {
			t.Errorf("step %d: %d packs were removed, want the one that was there when the index was read", i, done.Removed)
		}
		if _, err := a.Stat(ctx, after); err != nil {
			t.Errorf("step %d: the pack stored since: %v", i, err)
		}
	}
}

// TestSameBytesAgain: a client that stores a pack again which a compaction left uncounted needs no quota for it.
func TestSameBytesAgain(t *testing.T) {
	_, a, _ := vgerRepository(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 1050} }
	})
	body := strings.Repeat("x", 1000)
	mustPut(t, a, "index", "1")
	mustPut(t, a, "locks/l", "{}")
	mustPut(t, a, "packs/a", body)
	compaction(t, a, "job", []string{"packs/a"}, nil)
	mustPut(t, a, "packs/b", body) // in place of it
	mustPut(t, a, "packs/a", body)
	if u := a.Repository().Usage(); u.Used != 1001 || u.ReturnedBytes != 1000 {
		t.Errorf("usage: %+v", u)
	}
	if _, err := put(a, "packs/a", strings.Repeat("y", 1000)); !errors.Is(err, repo.ErrQuota) {
		t.Errorf("other bytes: got %v, want ErrQuota", err)
	}
}
