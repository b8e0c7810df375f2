package recovery_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/recovery"
	"packhouse/repo/repotest"
)

// lost is a repository whose index a test damages after some story.
type lost struct {
	clock *repotest.Clock
	o     datadir.Options
	path  string
}

// lose tells the story to a new repository with that grace time, closes it and makes garbage of its index.
func lose(t *testing.T, grace time.Duration, story func(a *repo.Access)) *lost {
	t.Helper()
	return loseSmall(t, 0, grace, story)
}

// loseSmall is lose of a repository whose items of up to small bytes lie in a log of small segments.
func loseSmall(t *testing.T, small int64, grace time.Duration, story func(a *repo.Access)) *lost {
	t.Helper()
	l := &lost{clock: newClock()}
	l.o = datadir.Options{
		Dir: memoryDir(t), Environment: repo.Environment{Now: l.clock.Now, Small: small, Index: index.Options{SegmentSize: 256 << 10}},
		Settings: func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: grace} },
	}
	l.path = filepath.Join(l.o.Dir, "r")
	s := datadir.Open(l.o)
	story(create(t, s, "r").As(repo.Principal{}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.path, "index.db"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// loseLog loses the log too, so that nobody knows what happened since the snapshot but the blobs.
func (l *lost) loseLog(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(l.path, index.LogDir)); err != nil {
		t.Fatal(err)
	}
}

// rebuild rebuilds and opens.
func (l *lost) rebuild(t *testing.T) (*repo.Access, recovery.RebuildReport) {
	t.Helper()
	report, err := recovery.Rebuild(ctx, l.path, recovery.RebuildOptions{Now: l.clock.Now, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	return l.open(t), report
}

func (l *lost) open(t *testing.T) *repo.Access {
	t.Helper()
	s := datadir.Open(l.o)
	t.Cleanup(func() {
		checkAll(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	waitReclaimed(t, r, l.clock.Now)
	return r.As(repo.Principal{})
}

// waitReclaimed waits until the files of what can be restored no more are gone.
func waitReclaimed(t *testing.T, r *repo.Repository, now func() time.Time) {
	t.Helper()
	waitFor(t, "what has expired to go", func() bool {
		return !slices.ContainsFunc(trash(t, r), func(row index.Removed) bool { return !row.Expires.After(now()) })
	})
}

// wantRestorable restores all of the trash, and wants what it then has.
func wantRestorable(t *testing.T, a *repo.Access, want ...string) {
	t.Helper()
	var got []string
	for i, row := range trash(t, a.Repository()) {
		key := fmt.Sprintf("restored/%d", i)
		if _, err := a.Repository().Restore(ctx, row.ID, key); err != nil {
			t.Errorf("restore of %q: %v", row.Key, err)
			continue
		}
		body, err := get(a, key)
		if err != nil {
			t.Errorf("read of restored %q: %v", row.Key, err)
		}
		got = append(got, row.Key+"="+body)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("trash has %q, want %q", got, want)
	}
}

// What the snapshot has in its trash may have been restored since, and its grace time be over by now.
func TestRebuildKeepsWhatWasRestored(t *testing.T) {
	l := lose(t, time.Hour, func(a *repo.Access) {
		r := a.Repository()
		for _, key := range []string{"x", "d/y", "z"} {
			mustPut(t, a, key, "restored "+key)
			if err := a.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Snapshot(ctx, 1); err != nil {
			t.Fatal(err)
		}
		for _, row := range trash(t, r) {
			if _, err := r.Restore(ctx, row.ID, ""); err != nil {
				t.Fatal(err)
			}
		}
		// Its key is another's, or another's directory, when the index is rebuilt.
		if err := a.Move(ctx, "x", "elsewhere"); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "x", "stored since")
		if err := a.Move(ctx, "z", "w"); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "z/1", "below")
	})
	l.loseLog(t)
	l.clock.Advance(2 * time.Hour)
	a, _ := l.rebuild(t)
	wantContent(t, a, "x", "stored since")
	wantContent(t, a, "z/1", "below")
	wantRestorable(t, a, "d/y=restored d/y", "x=restored x", "z=restored z")
}

// The upload that began first may have been committed last: no blob of an acknowledged item is left without a row.
func TestRebuildKeepsTheOlderBlob(t *testing.T) {
	l := lose(t, time.Hour, func(a *repo.Access) {
		u, err := a.NewUpload(ctx, repo.UploadOptions{Key: "x", Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Discard()
		if _, err := u.Write([]byte("committed last")); err != nil {
			t.Fatal(err)
		}
		if err := u.Finish(ctx, "x", repo.Verified{}); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "x", "committed first")
		if _, err := a.Repository().Snapshot(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}}); err != nil {
			t.Fatal(err)
		}
		wantContent(t, a, "x", "committed last")
	})
	l.loseLog(t)
	a, report := l.rebuild(t)
	wantContent(t, a, "x", "committed first")
	wantRestorable(t, a, "x=committed last")
	if report.Superseded != 1 {
		t.Errorf("report: %+v", report)
	}
}

// An item moved to another key comes back under the one of its label, where by now a directory is needed.
func TestRebuildKeepsWhatHasNoPlace(t *testing.T) {
	l := lose(t, 0, func(a *repo.Access) {
		mustPut(t, a, "x", "moved")
		if err := a.Move(ctx, "x", "y"); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "x/1", "below")
	})
	a, report := l.rebuild(t)
	wantContent(t, a, "x", "moved")
	wantRestorable(t, a, "lost+found:x:1=below")
	if report.Recovered != 1 || report.Superseded != 1 {
		t.Errorf("report: %+v", report)
	}
}

// An index is often damaged before it is lost, and the damage copied into its last snapshots.
func TestRebuildPassesOverDamagedSnapshots(t *testing.T) {
	var good, bad recovery.Snapshot
	l := lose(t, 0, func(a *repo.Access) {
		var err error
		mustPut(t, a, "packs/a", "1")
		if good, err = a.Repository().Snapshot(ctx, 5); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "packs/b", "2")
		if bad, err = a.Repository().Snapshot(ctx, 5); err != nil {
			t.Fatal(err)
		}
	})
	damageSnapshot(t, filepath.Join(l.path, "snapshots", bad.Name))
	a, report := l.rebuild(t)
	if report.Snapshot != good.Name {
		t.Errorf("began with %q, want %q", report.Snapshot, good.Name)
	}
	if got := contents(t, a); !maps.Equal(got, map[string]string{"packs/a": "1", "packs/b": "2"}) {
		t.Errorf("got %q", got)
	}
}

// damageSnapshot makes one row of the copy unreadable. The compressed file is as whole as it was.
func damageSnapshot(t *testing.T, name string) {
	t.Helper()
	compressed, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	plain, err := decoder.DecodeAll(compressed, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(memoryDir(t), "index")
	if err := os.WriteFile(path, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	damageIndex(t, path)
	if plain, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	if err := os.WriteFile(name, encoder.EncodeAll(plain, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRebuildSurvivesEveryFailure fails each file operation of a rebuild, and each commit of its index: what is
// there afterwards is whole, or can be rebuilt again, and an unfinished index does not stay.
func TestRebuildSurvivesEveryFailure(t *testing.T) {
	for name, small := range map[string]int64{"files": 0, "log": index.MaxPayload} {
		for _, gap := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/gap=%v", name, gap), func(t *testing.T) { rebuildSurvivesEveryFailure(t, small, gap) })
		}
	}
}

// rebuildSurvivesEveryFailure: with a gap the rebuild does not know what the log says between the snapshot and what lies behind it.
func rebuildSurvivesEveryFailure(t *testing.T, small int64, gap bool) {
	want := map[string]string{"packs/a": "1", "packs/b": "2", "config": "new"}
	story := func(a *repo.Access) {
		mustPut(t, a, "packs/a", "1")
		mustPut(t, a, "config", "old")
		mustPut(t, a, "gone", "")
		if _, err := a.Repository().Snapshot(ctx, 1); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, "packs/b", "2")
		mustPut(t, a, "config", "new")
		if err := a.Delete(ctx, "gone"); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the trash to empty", func() bool { return a.Repository().Usage().TrashItems == 0 })
	}
	loss := func(t *testing.T) *lost {
		t.Helper()
		l := loseSmall(t, small, 0, story)
		switch {
		case gap && small == 0:
			l.loseLog(t)
		case gap:
			if err := os.RemoveAll(filepath.Join(l.path, "snapshots")); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	after := func(t *testing.T, l *lost, err error) {
		t.Helper()
		if err != nil {
			if _, err := os.Stat(filepath.Join(l.path, "index.db.rebuilt")); err == nil {
				t.Errorf("the unfinished index stays")
			}
		}
		for range 2 { // it can be repeated
			if _, err := recovery.Rebuild(ctx, l.path, recovery.RebuildOptions{Now: l.clock.Now, Replace: true}); err != nil {
				t.Fatalf("rebuild again: %v", err)
			}
		}
		if got := contents(t, l.open(t)); !maps.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n, hit := 1, true; hit; n++ {
			t.Run(fmt.Sprintf("file/%s/%d", when, n), func(t *testing.T) {
				l := loss(t)
				fsys := vfstest.NewFailing(vfs.OS())
				fsys.FailAt(n, when, syscall.ENOSPC)
				hooks := index.Options{Database: vfstest.Bolt(t, fsys)}
				_, err := recovery.Rebuild(ctx, l.path, recovery.RebuildOptions{FS: fsys, Index: hooks, Now: l.clock.Now, Replace: true})
				hit = fsys.Hit()
				after(t, l, err)
			})
		}
	}
	for n, hit := 1, true; hit; n++ {
		t.Run(fmt.Sprintf("power/%d", n), func(t *testing.T) {
			l := loss(t)
			disk := vfstest.NewLossy(t, l.path)
			fsys := vfstest.NewFailing(disk)
			fsys.StopAt(n, vfstest.Before, syscall.EIO)
			hooks := index.Options{Database: vfstest.Bolt(t, fsys)}
			_, err := recovery.Rebuild(ctx, l.path, recovery.RebuildOptions{FS: fsys, Index: hooks, Now: l.clock.Now, Replace: true})
			hit = fsys.Hit()
			if err := disk.Crash(rand.New(rand.NewPCG(uint64(n), 0))); err != nil {
				t.Fatal(err)
			}
			if err == nil { // then it is durable
				if got := contents(t, l.open(t)); !maps.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				return
			}
			after(t, l, nil) // an unfinished index may stay, for the next one to remove
		})
	}
	for n, hit := 1, true; hit; n++ {
		t.Run(fmt.Sprintf("commit/%d", n), func(t *testing.T) {
			l := loss(t)
			commits := 0
			hit = false
			hooks := index.Options{BeforeCommit: func() error {
				if commits++; commits == n {
					hit = true
					return errors.New("the disk is on fire")
				}
				return nil
			}}
			_, err := recovery.Rebuild(ctx, l.path, recovery.RebuildOptions{Index: hooks, Now: l.clock.Now, Replace: true})
			if hit != (err != nil) {
				t.Errorf("commit %d fails: got %v", n, err)
			}
			after(t, l, err)
		})
	}
}
