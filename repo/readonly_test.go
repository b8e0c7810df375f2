package repo_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// A client that goes on sending to a repository whose index has failed must not fill the disk with blobs that only the
// next start removes.
func TestFailedIndexTakesNoBodies(t *testing.T) {
	dir := newRepository(t)
	failing := false
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{
		Index: index.Options{BeforeCommit: func() error {
			if failing {
				return errors.New("sync failed")
			}
			return nil
		}},
	}})
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	failing = true
	for i := range 5 {
		if _, err := put(a, fmt.Sprintf("packs/%d", i), "body"); !errors.Is(err, repo.ErrReadOnly) {
			t.Errorf("put %d: got %v, want ErrReadOnly", i, err)
		}
	}
	// The first one's outcome is unknown; what came after it was refused before its body.
	if placed, _ := blobFiles(t, filepath.Join(dir, "r")); placed > 1 {
		t.Errorf("%d blobs are left, want one at most", placed)
	}
}

// After a failed sync of a blob nothing changes any more, not in the index either: the disk is not to be trusted.
func TestFailedBlobsStopEveryChange(t *testing.T) {
	fsys := vfstest.NewFailing(vfs.OS())
	a := newAccess(t, func(o *datadir.Options) {
		o.FS, o.Index.FS = fsys, vfs.OS() // the log makes its next segment in the background
	})
	mustPut(t, a, "packs/x", "content")
	fsys.Reset()
	fsys.FailOp(vfstest.Sync, 1, vfstest.Before, syscall.EIO) // whatever the background does meanwhile
	if _, err := put(a, "packs/y", "content"); !errors.Is(err, repo.ErrReadOnly) {
		t.Fatalf("put: got %v, want ErrReadOnly", err)
	}
	fsys.Reset()
	r := a.Repository()
	for name, do := range map[string]func() error{
		"delete": func() error { return a.Delete(ctx, "packs/x") },
		"move":   func() error { return a.Move(ctx, "packs/x", "packs/z") },
		"mkdir":  func() error { return a.MakeDir(ctx, "d") },
		"quota":  func() error { return r.SetQuota(ctx, 5) },
		"lock":   func() error { _, err := a.AcquireLock(ctx, "l", "h", nil, 1); return err },
	} {
		if err := do(); !errors.Is(err, repo.ErrReadOnly) {
			t.Errorf("%s: got %v, want ErrReadOnly", name, err)
		}
	}
	if err := r.PutJob(ctx, index.Job{ID: "j"}); err != nil {
		t.Errorf("record of a job: %v", err) // else nobody sees how it ended
	}
	wantContent(t, a, "packs/x", "content")
	if u := r.Usage(); u.Items != 1 || u.Reserved != 0 {
		t.Errorf("usage: %+v", u)
	}
}

// TestEveryFailedSyncTurnsReadOnly fails each sync of a file and of a directory, one at a time, while items are stored and
// deleted, the plan of a job is kept and forgotten, and the index is copied. Whatever it was for, from then on the
// repository takes no change and says so.
func TestEveryFailedSyncTurnsReadOnly(t *testing.T) {
	steps := []struct {
		name string
		do   func(a *repo.Access) error
	}{
		{"put", func(a *repo.Access) error { _, err := put(a, "packs/x", "content"); return err }},
		{"plan kept", func(a *repo.Access) error { return writeFile(a.Repository(), "job", "plan") }},
		{"snapshot", func(a *repo.Access) error { _, err := a.Repository().Snapshot(ctx, 1); return err }},
		{"delete", func(a *repo.Access) error { return a.Delete(ctx, "packs/x") }},
		{"plan forgotten", func(a *repo.Access) error { return a.Repository().RemoveFile(repo.JobsFolder, "job") }},
	}
	seen := map[string]bool{}
	for _, op := range []vfstest.Op{vfstest.Sync, vfstest.SyncDir} {
		for n, hit := 1, true; hit; n++ {
			t.Run(fmt.Sprintf("%s/%d", op, n), func(t *testing.T) {
				fsys := vfstest.NewFailing(vfs.OS())
				a := newAccess(t, func(o *datadir.Options) {
					o.FS, o.Index.FS = fsys, vfs.OS() // of the log, see below
					// Nothing is unlinked meanwhile.
					o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
				})
				fsys.FailOp(op, n, vfstest.Before, syscall.EIO)
				failed := ""
				for _, s := range steps {
					err := s.do(a)
					if hit = fsys.Hit(); hit {
						failed = s.name
						if err == nil {
							t.Errorf("%s was acknowledged", s.name)
						}
						break
					} else if err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
				}
				if !hit {
					return
				}
				seen[string(op)+" of "+failed] = true
				if h := a.Repository().Health(); !h.ReadOnly || h.Reason == "" {
					t.Errorf("health after %s: %+v", failed, h)
				}
				for _, s := range steps {
					if s.name == "plan forgotten" {
						continue // nothing is there to remove, perhaps
					}
					if err := s.do(a); !errors.Is(err, repo.ErrReadOnly) {
						t.Errorf("%s after %s: got %v, want ErrReadOnly", s.name, failed, err)
					}
				}
			})
		}
	}
	for _, want := range []string{"sync of put", "sync of plan kept", "sync of snapshot", "syncdir of put", "syncdir of plan kept", "syncdir of snapshot", "syncdir of plan forgotten"} {
		if !seen[want] {
			t.Errorf("no failed %s", want)
		}
	}
}

// TestEveryFailedSyncOfTheLog does the same with the log, which also syncs what it makes ahead, in the background.
func TestEveryFailedSyncOfTheLog(t *testing.T) {
	for _, op := range []vfstest.Op{vfstest.Sync, vfstest.SyncDir} {
		for n, hit := 1, true; hit; n++ {
			t.Run(fmt.Sprintf("%s/%d", op, n), func(t *testing.T) {
				fsys := vfstest.NewFailing(vfs.OS())
				a := newAccess(t, func(o *datadir.Options) {
					o.Index.FS, o.Index.SegmentSize = fsys, 16<<10
				})
				fsys.FailOp(op, n, vfstest.Before, syscall.EIO)
				acknowledged := 0
				for i := range 60 {
					if _, err := put(a, fmt.Sprintf("packs/%02d", i), "content"); err != nil {
						if !errors.Is(err, repo.ErrReadOnly) {
							t.Errorf("put %d: got %v, want ErrReadOnly", i, err)
						}
						break
					}
					acknowledged++
				}
				if hit = fsys.Hit(); !hit {
					fsys.Reset() // a stop syncs, too
					return
				}
				waitFor(t, "health to say so", func() bool { return a.Repository().Health().ReadOnly })
				if _, err := put(a, "packs/more", "content"); !errors.Is(err, repo.ErrReadOnly) {
					t.Errorf("put after it: got %v, want ErrReadOnly", err)
				}
				for i := range acknowledged {
					wantContent(t, a, fmt.Sprintf("packs/%02d", i), "content")
				}
			})
		}
	}
}

// A repository that has failed forgets no row of its trash, and so unlinks no blob of one.
func TestFailedRepositoryKeepsItsTrash(t *testing.T) {
	fsys := vfstest.NewFailing(vfs.OS())
	a := newAccess(t, func(o *datadir.Options) {
		o.FS, o.Index.FS = fsys, vfs.OS() // the log makes its next segment in the background
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "packs/x", "content")
	if err := a.Delete(ctx, "packs/x"); err != nil {
		t.Fatal(err)
	}
	fsys.FailOp(vfstest.SyncDir, 1, vfstest.Before, syscall.EIO)
	if err := writeFile(r, "job", "plan"); err == nil {
		t.Fatal("a plan was kept whose directory was not synced")
	}
	if _, err := r.EmptyTrash(ctx, time.Now().Add(time.Minute)); !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("empty the trash: got %v, want ErrReadOnly", err)
	}
	if found := blobPaths(t, repo.Dir(r)); len(found) != 1 {
		t.Errorf("blobs: %v, want the one of the row", found)
	}
}
