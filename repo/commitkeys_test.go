package repo_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

const mib = 1 << 20

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// putZeros stores so many bytes, announced or not.
func putZeros(a *repo.Access, key string, size int64, announced bool) error {
	req := repo.PutRequest{Key: key, Body: io.LimitReader(zeros{}, size), Size: size}
	if !announced {
		req.Size = -1
	}
	_, err := a.Put(ctx, req)
	return err
}

// newDialect makes a repository of a dialect; change may alter the options of its set.
func newDialect(t *testing.T, dialect string, change func(*datadir.Options)) *repo.Access {
	t.Helper()
	r, err := newSet(t, change).Create(ctx, "r", dialect)
	if err != nil {
		t.Fatal(err)
	}
	return r.As(repo.Principal{Name: "tester"})
}

func wantQuota(t *testing.T, what string, err error) {
	t.Helper()
	var q *repo.QuotaError
	if !errors.As(err, &q) || q.Wanted <= q.Limit {
		t.Errorf("%s: got %v, want a QuotaError", what, err)
	}
}

// TestCommitKeysBeyondTheQuota: the quota is lowered far below what is stored. What clients complete a compaction with
// is stored all the same, and nothing else.
func TestCommitKeysBeyondTheQuota(t *testing.T) {
	for _, tt := range []struct {
		dialect  string
		admitted map[string]int64 // beyond the quota
		refused  map[string]int64
		grows    string // may become large
	}{
		{
			"vger",
			map[string]int64{"index": 3000, "index.gen": 8, "manifest": 2000, "locks/x": 300, "sessions/x": 64 << 10},
			map[string]int64{"packs/x": 1, "config": 1, "snapshots/x": 1, "index/x": 1, "index.old": 1, "pending_index": 1,
				"cache/x": 1, "locks": 1, "locks/y": 64<<10 + 1, "sessions/y": 64<<10 + 1},
			"index",
		},
		{
			"borgstore",
			map[string]int64{"config/manifest": 3000, "index/x": 5000, "cache/x": 2000, "cache/a/b": 1, "locks/x": 300, "locks/y": 64<<10 + 1},
			map[string]int64{"packs/x": 1, "config/id": 1, "index": 1, "manifest": 1, "archives/x": 1, "sessions/y": 64<<10 + 1},
			"index/large",
		},
		{"test", nil, map[string]int64{"index": 1, "manifest": 1, "cache/x": 1, "config/manifest": 1}, ""},
	} {
		t.Run(tt.dialect, func(t *testing.T) {
			a := newDialect(t, tt.dialect, nil)
			mustPut(t, a, "packs/a", strings.Repeat("x", 100_000))
			if err := a.Repository().SetQuota(ctx, 10); err != nil {
				t.Fatal(err)
			}
			for key, size := range tt.refused {
				wantQuota(t, key, putZeros(a, key, size, true))
				wantQuota(t, key+" of unknown length", putZeros(a, key, size, false))
			}
			for key, size := range tt.admitted {
				for _, announced := range []bool{true, false} {
					for _, size := range []int64{size, size - 1, size} {
						if err := putZeros(a, key, size, announced); err != nil {
							t.Errorf("%s of %d bytes (announced: %v): %v", key, size, announced, err)
						}
					}
				}
			}
			if tt.grows == "" {
				return
			}
			// All together hold 64 MiB, whatever the quota, and not a byte more.
			held, _, _ := repo.CommitBytes(t, a.Repository())
			fits := 64*mib - held
			if entry, err := a.Stat(ctx, tt.grows); err == nil {
				fits += entry.Item.Size
			}
			for _, announced := range []bool{true, false} {
				wantQuota(t, "beyond the bound", putZeros(a, tt.grows, fits+1, announced))
			}
			if err := putZeros(a, tt.grows, fits, false); err != nil {
				t.Errorf("up to the bound: %v", err)
			}
			wantQuota(t, "another at the bound", putZeros(a, "cache/another", 1, true))
			if err := putZeros(a, tt.grows, fits-1, true); err != nil {
				t.Errorf("a smaller one at the bound: %v", err)
			}
			if u := a.Repository().Usage(); u.Used != 100_000+64*mib-1 {
				t.Errorf("used: got %d", u.Used)
			}
		})
	}
}

// What was large within the quota may be twice as large beyond it; also when it was stored before there was a mark, and after a
// restart, and if it was deleted since.
func TestCommitKeysMayBeTwiceWhatTheyWere(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	r, err := s.Create(ctx, "r", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	if err := putZeros(a, "index/a", 40*mib, true); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.SetQuota(ctx, 1000), a.Delete(ctx, "index/a"), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = datadir.Open(datadir.Options{Dir: dir})
	defer func() {
		checkAll(t, s)
		s.Close()
	}()
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	a = r.As(repo.Principal{})
	if err := putZeros(a, "index/b", 50*mib, true); err != nil {
		t.Errorf("first: %v", err)
	}
	wantQuota(t, "more than twice", putZeros(a, "index/c", 30*mib+1, true))
	wantQuota(t, "more than twice, of unknown length", putZeros(a, "index/c", 30*mib+1, false))
	if err := putZeros(a, "index/c", 30*mib, false); err != nil {
		t.Errorf("twice: %v", err)
	}
}

// Uploads of commit keys under way count together, whether their length is known or not.
func TestCommitKeysUnderWayShareTheBound(t *testing.T) {
	a := newDialect(t, "borgstore", func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 5} }
	})
	begin := func(key string, size int64) (*repo.Upload, error) {
		return a.NewUpload(ctx, repo.UploadOptions{Key: key, Size: size})
	}
	first, err := begin("index/a", 40*mib)
	if err != nil {
		t.Fatal(err)
	}
	_, err = begin("cache/b", 25*mib)
	wantQuota(t, "a second one", err)
	second, err := begin("cache/b", 24*mib)
	if err != nil {
		t.Errorf("a second one that fits: %v", err)
	}
	_, err = begin("cache/c", 1)
	wantQuota(t, "a third", err)
	first.Discard()
	if third, err := begin("cache/c", 40*mib); err != nil {
		t.Errorf("when the first has ended: %v", err)
	} else {
		third.Discard()
	}
	second.Discard()

	// Two of unknown length grow in turn until one is refused.
	first, second = nil, nil
	for _, u := range []**repo.Upload{&first, &second} {
		if *u, err = begin("index/"+fmt.Sprint(u), -1); err != nil {
			t.Fatal(err)
		}
		defer (*u).Discard()
	}
	piece := make([]byte, mib)
	for i := range 32 {
		for _, u := range []*repo.Upload{first, second} {
			if _, err := u.Write(piece); err != nil {
				t.Fatalf("MiB %d: %v", i, err)
			}
		}
	}
	_, err = first.Write(piece[:1])
	wantQuota(t, "beyond the bound together", err)
	second.Discard()
	if _, err = first.Write(piece); err != nil {
		t.Errorf("when the other has ended: %v", err)
	}
	first.Discard()

	// And however many at once: what they leave is within the bound, and nothing stays reserved.
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := int64(0)
	for i := range 12 {
		wg.Go(func() {
			err := putZeros(a, fmt.Sprintf("cache/%d", i), 10*mib, i%2 == 0)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				stored += 10 * mib
			} else if !errors.Is(err, repo.ErrQuota) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if counted, reserved, inIndex := repo.CommitBytes(t, a.Repository()); counted != stored || reserved != 0 || inIndex != stored || stored > 64*mib {
		t.Errorf("afterwards: counted %d, reserved %d, in the index %d, stored %d", counted, reserved, inIndex, stored)
	}
}

// Under another name there would be place for more of them.
func TestMoveIsNoWayOutOfTheCommitKeys(t *testing.T) {
	a := newDialect(t, "borgstore", nil)
	mustPut(t, a, "index/a", strings.Repeat("x", 1000))
	mustPut(t, a, "packs/p", strings.Repeat("x", 2000))
	if err := a.Repository().SetQuota(ctx, 10); err != nil {
		t.Fatal(err)
	}
	wantQuota(t, "move", a.Move(ctx, "index/a", "packs/a"))
	for _, to := range []string{"index/a.del", "index/a", "cache/a"} {
		from := "index/a"
		if to == "index/a" {
			from = "index/a.del"
		}
		if err := a.Move(ctx, from, to); err != nil {
			t.Errorf("move among them, %s to %s: %v", from, to, err)
		}
	}
	if err := a.Delete(ctx, "packs/p"); err != nil {
		t.Fatal(err)
	}
	if err := a.Repository().SetQuota(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	if err := a.Move(ctx, "cache/a", "packs/a"); err != nil {
		t.Errorf("within the quota: %v", err)
	}
}

// A ceiling of one principal is a quota like others.
func TestCommitKeysBeyondTheCeiling(t *testing.T) {
	a := newDialect(t, "borgstore", nil)
	mustPut(t, a, "packs/a", strings.Repeat("x", 1000))
	ceiling := int64(10)
	small := a.Repository().As(repo.Principal{Ceiling: &ceiling})
	mustPut(t, small, "index/a", strings.Repeat("x", 1000))
	wantQuota(t, "a pack", putZeros(small, "packs/b", 1, true))
}

// newReserved makes a repository on a disk of which so many bytes are free, with the reserve that it keeps.
func newReserved(t *testing.T, dialect string, free, reserve int64, change func(*datadir.Options)) (*disk, *repo.Access) {
	t.Helper()
	d := newFreeDisk(free)
	return d, newDialect(t, dialect, func(o *datadir.Options) {
		o.FS = d
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: reserve} }
		if change != nil {
			change(o)
		}
	})
}

// Commit keys may use the reserve, but for the eighth that deleting needs.
func TestCommitKeysUseTheReserve(t *testing.T) {
	const reserve = 8 * mib
	for _, announced := range []bool{true, false} {
		d, a := newReserved(t, "vger", reserve-1, reserve, nil)
		if err := putZeros(a, "packs/a", 1, announced); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("pack: got %v, want ErrNoSpace", err)
		}
		// An upload of unknown length claims the disk in steps; what has come must fit, not the step.
		if err := putZeros(a, "index", 7*mib, announced); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("index into the eighth: got %v, want ErrNoSpace", err)
		}
		d.free.Store(reserve - 1)
		if err := putZeros(a, "index", 7*mib-1, announced); err != nil {
			t.Errorf("index up to the eighth: %v", err)
		}
		if err := putZeros(a, "manifest", 1, announced); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("manifest: got %v, want ErrNoSpace", err)
		}
		mustPut(t, a, "locks/me", "a lock is always admitted")
		d.free.Store(reserve - 1)
		if err := putZeros(a, "sessions/s", 64<<10+1, announced); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("large session: got %v, want ErrNoSpace", err)
		}
	}
}

// Locks and sessions that are no longer exempt, for there are so many, count among the commit keys.
func TestLocksBeyondWhatIsExempt(t *testing.T) {
	a := newDialect(t, "vger", func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 10} }
	})
	const size, exempt = 64 << 10, 4 * mib / (64 << 10) // of one principal
	for i := range exempt + 3 {
		if err := putZeros(a, fmt.Sprintf("sessions/%d", i), size, i%2 == 0); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
	}
	if u := a.Repository().Usage(); u.Exempt != exempt*size || u.Used != 3*size {
		t.Errorf("usage: %+v", u)
	}
	if counted, _, _ := repo.CommitBytes(t, a.Repository()); counted != 3*size {
		t.Errorf("commit keys: got %d bytes, want %d", counted, 3*size)
	}
}
