package backup_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/backup"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/repotest"
)

// stoppingFS can be stopped at a call as Failing is, and then makes nothing durable either.
type stoppingFS struct {
	*vfstest.Failing
	syncer vfs.FileSystemSyncer
}

func stopping(inner vfs.FS) stoppingFS {
	return stoppingFS{vfstest.NewFailing(inner), inner.(vfs.FileSystemSyncer)}
}

func (s stoppingFS) SyncFileSystem(name string) error {
	if s.Hit() {
		return syscall.EIO
	}
	return s.syncer.SyncFileSystem(name)
}

// change makes the repository another one: items are new, gone, replaced and moved.
func (w *world) change(before map[string]string) (after map[string]string) {
	w.t.Helper()
	ctx := w.t.Context()
	large := strings.Repeat("large", 500)
	if err := errors.Join(w.a.Delete(ctx, "packs/1"), w.a.Move(ctx, "packs/2", "packs/moved")); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.a.Repository().EmptyTrash(ctx, w.a.Repository().Now().Add(2*time.Hour)); err != nil {
		w.t.Fatal(err)
	}
	w.put(map[string]string{"packs/large": large, "packs/small": "small", "config": "two"})
	return map[string]string{"config": "two", "packs/moved": before["packs/2"], "packs/large": large, "packs/small": "small"}
}

func fewItems() map[string]string {
	return map[string]string{"config": "one", "packs/1": strings.Repeat("1", 2000), "packs/2": strings.Repeat("2", 2000)}
}

// interrupted makes a first backup, and then others of a repository that has changed, each of which is interrupted at another call. stopped tells when that has happened, and is to
// want the directory to be as it should. When the call comes after the last one, that is the end.
func interrupted(t *testing.T, copies bool, when vfstest.When, each func(w *world, n int, before, after map[string]string, run func(fsys stoppingFS) (complete bool, err error)) (hit bool)) {
	t.Helper()
	for n := 1; ; n++ {
		items := fewItems()
		w := newWorld(t, items)
		o := w.options()
		o.Copy = copies
		w.backup(o, 0)
		after := w.change(items)
		hit := each(w, n, items, after, func(fsys stoppingFS) (bool, error) {
			fsys.StopAt(n, when, syscall.EIO)
			o.FS = fsys
			_, err := backup.Run(t.Context(), o)
			return err == nil, err
		})
		if !hit {
			if n < 15 {
				t.Errorf("only %d calls", n-1)
			}
			return
		}
		if err := w.set.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantState wants the backup to be one of two states, the second if it is complete.
func (w *world) wantState(name string, before, after map[string]string, complete bool) {
	w.t.Helper()
	a := w.restore(name, 0)
	if got := fmt.Sprint(repotest.Contents(w.t, a)); got != fmt.Sprint(after) && (complete || got != fmt.Sprint(before)) {
		w.t.Errorf("%s: got %.300s", name, got)
	}
}

// TestStopsAnywhere: wherever a backup is stopped, its directory has the state before or the new one, whole; and the next completes it.
func TestStopsAnywhere(t *testing.T) {
	for _, copies := range []bool{false, true} {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			interrupted(t, copies, when, func(w *world, n int, before, after map[string]string, run func(stoppingFS) (bool, error)) bool {
				fsys := stopping(vfs.OS())
				complete, err := run(fsys)
				if !fsys.Hit() {
					if err != nil {
						t.Error(err)
					}
					return false
				}
				if complete {
					t.Errorf("call %d: no error", n)
				}
				w.wantState("stopped", before, after, false)
				w.backup(w.options(), 0)
				w.wantState("completed", before, after, true)
				wantNoRest(t, w.path("dest"))
				return true
			})
		}
	}
}

// TestPowerFailsAnywhere is TestStopsAnywhere for the machine: what was not synced is lost, or some of it.
func TestPowerFailsAnywhere(t *testing.T) {
	for seed := range uint64(4) {
		powerFails(t, seed)
	}
}

func powerFails(t *testing.T, seed uint64) {
	interrupted(t, true, vfstest.Before, func(w *world, n int, before, after map[string]string, run func(stoppingFS) (bool, error)) bool {
		lossy := vfstest.NewLossy(t, w.path("dest"))
		fsys := stopping(lossy)
		complete, _ := run(fsys)
		var random *rand.Rand // nil forgets everything
		if seed > 0 {
			random = rand.New(rand.NewPCG(seed, uint64(n)))
		}
		if err := lossy.Crash(random); err != nil {
			t.Fatal(err)
		}
		w.wantState("stopped", before, after, complete)
		o := w.options()
		o.Copy = true
		w.backup(o, 0)
		w.wantState("completed", before, after, true)
		return fsys.Hit()
	})
}

// TestFirstStops: a first backup that is stopped leaves nothing that is taken for one, and nothing that is in the way of the next.
func TestFirstStops(t *testing.T) {
	w := newWorld(t, fewItems())
	for n := 1; ; n++ {
		o := w.options()
		fsys := stopping(vfs.OS())
		fsys.StopAt(n, vfstest.After, syscall.EIO)
		o.FS = fsys
		_, err := backup.Run(t.Context(), o)
		if !fsys.Hit() {
			if err != nil || n < 15 {
				t.Errorf("%d calls, %v", n-1, err)
			}
			return
		}
		if v, err := backup.Verify(t.Context(), backup.VerifyOptions{Dir: o.Dir}); err == nil && v.Items.Items != 3 {
			t.Errorf("stopped at call %d: got %+v", n, v)
		}
		w.backup(w.options(), 0)
		w.wantState(fmt.Sprint("restored", n), nil, fewItems(), true)
		if err := os.RemoveAll(o.Dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk: on a full disk the state before stays, and what was transferred does not have to be again.
func TestFullDisk(t *testing.T) {
	for n := 1; ; n++ {
		items := fewItems()
		w := newWorld(t, items)
		o := w.options()
		o.Copy = true
		w.backup(o, 0)
		after := w.change(items)
		fsys := stopping(vfs.OS())
		fsys.FailOp(vfstest.Write, n, vfstest.After, syscall.ENOSPC)
		o.FS = fsys
		_, err := backup.Run(t.Context(), o)
		if err == nil {
			if n < 3 {
				t.Errorf("only %d writes", n-1)
			}
			return
		}
		if !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("write %d: got %v", n, err)
		}
		w.wantState("full", items, nil, false)
		w.backup(w.options(), 0)
		w.wantState("completed", items, after, true)
	}
}

// TestNoSpace: where the copies do not fit, that is told before one is made.
func TestNoSpace(t *testing.T) {
	w := newWorld(t, fewItems())
	o := w.options()
	o.Copy, o.FS = true, fullFS{stopping(vfs.OS())}
	for name, run := range map[string]func() error{
		"look": func() error { _, err := backup.Look(t.Context(), o); return err },
		"run":  func() error { _, err := backup.Run(t.Context(), o); return err },
	} {
		if err := run(); !errors.Is(err, repo.ErrNoSpace) || !strings.Contains(err.Error(), "copies of 3 items") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	o.FS = nil
	w.backup(o, 0)
	_, err := backup.Restore(t.Context(), backup.RestoreOptions{Source: o.Dir, Into: w.top, Name: "again", FS: fullFS{stopping(vfs.OS())}})
	if _, statErr := os.Stat(w.path("again")); !errors.Is(err, repo.ErrNoSpace) || !errors.Is(statErr, fs.ErrNotExist) {
		t.Errorf("restore: got %v, %v", err, statErr)
	}
}

// fullFS has no space.
type fullFS struct{ stoppingFS }

func (fullFS) Space(string) (free, total int64, err error) { return 1000, 1 << 30, nil }

// TestRestoreStopsAnywhere: wherever restoring is stopped, and whatever was not synced is lost, there is no repository, or all of it; and restoring again makes
// it. The backup is not changed.
func TestRestoreStopsAnywhere(t *testing.T) {
	items := fewItems()
	w := newWorld(t, items)
	w.backup(w.options(), 0)
	before := destFiles(t, w.path("dest"))
	shards := 0
	for n := 1; ; n++ {
		into := w.path(fmt.Sprint("data", n))
		if err := os.Mkdir(into, 0o700); err != nil {
			t.Fatal(err)
		}
		lossy := vfstest.NewLossy(t, into)
		fsys := stopping(lossy)
		fsys.StopAt(n, vfstest.Before, syscall.EIO)
		o := backup.RestoreOptions{Source: w.path("dest"), Into: into, Name: "again", Small: small, FS: fsys, Index: index.Options{Database: vfstest.Bolt(t, fsys)}}
		_, err := backup.Restore(t.Context(), o)
		hit := fsys.Hit()
		var random *rand.Rand
		if n%2 > 0 {
			random = rand.New(rand.NewPCG(11, uint64(n)))
		}
		if crashErr := lossy.Crash(random); crashErr != nil {
			t.Fatal(crashErr)
		}
		if state := datadir.Inspect(filepath.Join(into, "again")); state == nil || err == nil {
			wantContents(t, w.open(into), items)
		} else {
			if !errors.Is(state, datadir.ErrAdopting) && !errors.Is(state, repo.ErrNoRepository) {
				t.Errorf("stopped at call %d: got %v", n, state)
			}
			wantContents(t, w.restore(filepath.Base(into), 0), items)
		}
		want(t, "the backup", destFiles(t, w.path("dest")), before)
		if !hit {
			if err != nil || n < 100 {
				t.Errorf("%d calls, %v", n, err)
			}
			return
		}
		if calls := fsys.Calls(); strings.HasPrefix(calls[n-1].Name, filepath.Join(into, "again", "blobs", "0")) && shards < 250 { // the directories of shards are made alike
			shards += 100
			n += 100
		}
	}
}

// TestRestoreGivesUp: restoring that ends with an error leaves nothing; and what is in the way is told.
func TestRestoreGivesUp(t *testing.T) {
	items := fewItems()
	w := newWorld(t, items)
	w.backup(w.options(), 0)
	into := w.path("into")
	if err := os.Mkdir(into, 0o700); err != nil {
		t.Fatal(err)
	}
	fsys := stopping(vfs.OS())
	fsys.FailOp(vfstest.Write, 5, vfstest.After, syscall.ENOSPC)
	o := backup.RestoreOptions{Source: w.path("dest"), Into: into, Name: "again", Small: small, FS: fsys}
	_, err := backup.Restore(t.Context(), o)
	if _, statErr := os.Stat(filepath.Join(into, "again")); !errors.Is(err, repo.ErrNoSpace) || !errors.Is(statErr, fs.ErrNotExist) {
		t.Errorf("got %v, and then %v", err, statErr)
	}
	fsys = stopping(vfs.OS())
	fsys.StopAt(290, vfstest.Before, syscall.EIO) // the directories of the shards are there
	o.FS = fsys
	if _, err := backup.Restore(t.Context(), o); err == nil || !errors.Is(datadir.Inspect(filepath.Join(into, "again")), datadir.ErrAdopting) {
		t.Errorf("interrupted: %v, and then %v", err, datadir.Inspect(filepath.Join(into, "again")))
	}
	if _, err := adopt.Abandon(t.Context(), adopt.Options{Into: into, Name: "again"}, nil); err != nil {
		t.Errorf("give up what was interrupted: %v", err)
	}
	if _, err := os.Stat(filepath.Join(into, "again")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("given up: %v", err)
	}
	o.FS = nil
	if err := os.MkdirAll(filepath.Join(into, "again", layout.AdoptedDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "are being adopted under this name") {
		t.Errorf("got %v", err)
	}
	if err := os.RemoveAll(filepath.Join(into, "again")); err != nil {
		t.Fatal(err)
	}
	wantContents(t, w.restore("into", 0), items)
}
