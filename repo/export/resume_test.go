package export_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/export"
	"packhouse/repo/repotest"
)

// largeItems are two that are large enough for their copies to be kept, and a small one.
func largeItems() map[string]string {
	items := map[string]string{"config/id": "i"}
	for i := range 2 {
		body := strings.Repeat(fmt.Sprintf("large pack %d ", i), 16<<10)
		items["packs/"+sha(body)[:2]+"/"+sha(body)] = body
	}
	return items
}

// noClones is a file system, such as any that a test runs on, which can make itself durable and cannot clone.
type noClones struct{ vfs.FS }

func (n noClones) Create(name string) (vfs.File, error) {
	file, err := n.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return struct{ vfs.File }{file}, nil
}

func (n noClones) SyncFileSystem(name string) error {
	return vfs.OS().(vfs.FileSystemSyncer).SyncFileSystem(name)
}

func (n noClones) SetAttributes(name string, mode fs.FileMode, modified time.Time) error {
	return vfs.OS().(vfs.AttributeSetter).SetAttributes(name, mode, modified)
}

// partialCopies is how many copies an interrupted export has left that are complete.
func partialCopies(t *testing.T, dir string) (complete int) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir+".partial", "copies"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".new") {
			complete++
		}
	}
	return complete
}

// TestCopiesAreResumed: wherever an export is interrupted, the next one takes the copies that were complete, makes the others, and leaves nothing behind.
func TestCopiesAreResumed(t *testing.T) {
	items := largeItems()
	a, top := newRepository(t, 0, items)
	resumed := 0
	for n := 1; ; n++ {
		o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, fmt.Sprint("out", n)), Copy: true, FS: noClones{vfs.OS()}}
		failing := vfstest.NewFailing(noClones{vfs.OS()})
		failing.StopAt(n, vfstest.Before, syscall.EIO)
		stopped := o
		stopped.FS = stoppingFS{failing}
		_, err := export.Run(t.Context(), stopped)
		if !failing.Hit() {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if err == nil {
			t.Errorf("call %d: no error", n)
		}
		if _, err := os.Stat(o.Dir); err == nil {
			wantFiles(t, o.Dir, items)
			continue
		}
		complete := partialCopies(t, o.Dir)
		report, err := export.Run(t.Context(), o)
		if err != nil || report.Resumed.Items != int64(complete) || report.Copied.Items != 3 {
			t.Errorf("after call %d with %d copies: %+v, %v", n, complete, report, err)
		}
		resumed += complete
		wantFiles(t, o.Dir, items)
		wantNone(t, o.Dir+".partial")
		for path := range files(t, o.Dir) {
			info, err := os.Stat(filepath.Join(o.Dir, path))
			if err != nil {
				t.Fatal(err)
			}
			entry, err := a.Repository().Entry(path)
			if err != nil {
				t.Fatal(err)
			}
			if st := info.Sys().(*syscall.Stat_t); st.Nlink != 1 || info.Mode() != 0o600 || !info.ModTime().Equal(entry.Item.Modified) {
				t.Errorf("%s: %d names, %v, %v", path, st.Nlink, info.Mode(), info.ModTime())
			}
		}
	}
	if resumed < 10 {
		t.Errorf("only %d copies were resumed", resumed)
	}
}

// lossyFS is a file system that forgets what was not synced; making all of it durable ends the test's export.
type lossyFS struct {
	vfs.FS
}

var errEnough = errors.New("it was interrupted")

func (l lossyFS) SyncFileSystem(string) error { return errEnough }

// TestPowerFailsWhileCopying: a copy that has its name when the power fails is whole, whatever of what was not synced is lost.
func TestPowerFailsWhileCopying(t *testing.T) {
	items := largeItems()
	a, top := newRepository(t, 0, items)
	resumed := int64(0)
	for seed := range uint64(12) {
		parent := filepath.Join(top, fmt.Sprint("parent", seed))
		if err := os.Mkdir(parent, 0o700); err != nil {
			t.Fatal(err)
		}
		o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(parent, "out"), Copy: true, FS: noClones{vfs.OS()}}
		lossy := vfstest.NewLossy(t, parent)
		interrupted := o
		interrupted.FS = crashing{lossyFS{lossy}, lossy, rand.New(rand.NewPCG(seed, 1))}
		if _, err := export.Run(t.Context(), interrupted); err == nil {
			t.Fatal("no error")
		}
		report, err := export.Run(t.Context(), o)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		resumed += report.Resumed.Items
		wantFiles(t, o.Dir, items)
	}
	if resumed == 0 {
		t.Error("no copy was left")
	}
}

// crashing loses the power when all of the tree is there and nothing of it is durable yet.
type crashing struct {
	vfs.FS
	lossy  *vfstest.Lossy
	random *rand.Rand
}

func (c crashing) SyncFileSystem(string) error {
	if err := c.lossy.Crash(c.random); err != nil {
		return err
	}
	return errEnough
}

// TestOnlyTheSameBytesAreResumed: a copy of what has been replaced since is not taken, nor one that is shorter than the item, nor what another repository has left.
func TestOnlyTheSameBytesAreResumed(t *testing.T) {
	items := largeItems()
	a, top := newRepository(t, 0, items)
	o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "out"), Copy: true, FS: noClones{vfs.OS()}}
	interrupted := o
	interrupted.FS = lossyFS{o.FS}
	interrupt := func() {
		t.Helper()
		if _, err := export.Run(t.Context(), interrupted); !errors.Is(err, errEnough) || !strings.Contains(err.Error(), "what was copied is in out.partial") {
			t.Fatalf("got %v", err)
		}
		if n := partialCopies(t, o.Dir); n != 2 {
			t.Fatalf("%d copies", n)
		}
	}
	interrupt()
	for key, body := range items {
		if strings.HasPrefix(key, "packs/") { // of the same size
			items[key] = strings.ToUpper(body)
			repotest.MustPut(t, a, key, items[key])
			break
		}
	}
	report, err := export.Run(t.Context(), o)
	if err != nil || report.Resumed.Items != 1 {
		t.Errorf("got %+v, %v", report, err)
	}
	wantFiles(t, o.Dir, items)

	o.Dir += "2"
	interrupted.Dir = o.Dir
	interrupted.FS = lossyFS{o.FS}
	if _, err := export.Run(t.Context(), interrupted); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	left, err := filepath.Glob(o.Dir + ".partial/copies/*")
	if err != nil || len(left) != 2 {
		t.Fatal(left, err)
	}
	if err := errors.Join(os.Truncate(left[0], 1000), os.WriteFile(left[0]+"x.new", []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b, _ := newRepository(t, 0, items)
	other := o
	other.Repository = b.Repository()
	if report, err := export.Run(t.Context(), other); err != nil || report.Resumed.Items != 0 {
		t.Errorf("another repository: got %+v, %v", report, err)
	}
	wantFiles(t, o.Dir, items)
	wantNone(t, o.Dir+".partial")
}

// TestFullDiskKeepsNoCopies: copies do not keep the disk full.
func TestFullDiskKeepsNoCopies(t *testing.T) {
	a, top := newRepository(t, 0, largeItems())
	dir := filepath.Join(top, "out")
	failing := vfstest.NewFailing(noClones{vfs.OS()})
	failing.FailOp(vfstest.Link, 2, vfstest.Before, syscall.ENOSPC)
	_, err := export.Run(t.Context(), export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: dir, Copy: true, FS: stoppingFS{failing}})
	if !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	wantNone(t, dir)
}

// changing is a disk that gives back other bytes than were written to some of its files.
type changing struct {
	noClones
	change string // in the path of the file
}

func (c changing) Open(name string) (vfs.File, error) {
	file, err := c.noClones.Open(name)
	if err != nil || !strings.Contains(name, c.change) || !strings.Contains(name, "/tree/") {
		return file, err
	}
	return changedFile{file}, nil
}

type changedFile struct{ vfs.File }

func (c changedFile) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	if n > 0 {
		p[n/2] ^= 1
	}
	return n, err
}

// TestVerify: what was written is read again. A disk that gives back other bytes ends the export.
func TestVerify(t *testing.T) {
	for _, copies := range []bool{false, true} {
		items := borgItems()
		a, top := newRepository(t, 1<<10, items)
		o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "out"), Copy: copies, Verify: true, FS: noClones{vfs.OS()}}
		report, err := export.Run(t.Context(), o)
		if err != nil || report.Verified.Items != 16 || report.Problems != 0 {
			t.Errorf("copies %v: got %+v, %v", copies, report, err)
		}
		wantFiles(t, o.Dir, items)
		o.Dir += "2"
		o.FS = changing{noClones{vfs.OS()}, "config/id"}
		if _, err := export.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "config/id: what was written reads as something else") {
			t.Errorf("copies %v: got %v", copies, err)
		}
		wantNone(t, o.Dir)
	}
}

// TestVerifyFindsDamage: what nobody reads when it is linked is read then. An item that is damaged is told, marked, and not exported.
func TestVerifyFindsDamage(t *testing.T) {
	items := borgItems()
	a, top := newRepository(t, 0, items)
	body := strings.Repeat("damaged", 100)
	repotest.MustPut(t, a, "packs/damaged", body)
	for _, path := range repotest.BlobPaths(t, filepath.Join(top, "data", "r")) {
		if b, err := os.ReadFile(path); err == nil && string(b) == body {
			if err := os.WriteFile(path, []byte(strings.ToUpper(body)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var told []string
	dir := filepath.Join(top, "out")
	report, err := export.Run(t.Context(), export.Options{
		Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: dir, Verify: true, Problem: func(p export.Problem) { told = append(told, p.Key) },
	})
	if err != nil || report.Problems != 1 || fmt.Sprint(told) != "[packs/damaged]" || report.Verified.Items != 16 {
		t.Errorf("got %+v, %v, %v", report, told, err)
	}
	wantFiles(t, dir, items)
	if u := a.Repository().Usage(); u.DamagedItems != 1 {
		t.Errorf("usage: %+v", u)
	}
}

// TestVerifyOfUnverified: what was adopted and never read is held against its name then, or against the bytes of the repository.
func TestVerifyOfUnverified(t *testing.T) {
	top := repotest.MemoryDir(t)
	source, data := filepath.Join(top, "source"), filepath.Join(top, "data")
	for key, body := range borgItems() {
		if strings.HasPrefix(key, "packs/") && strings.Contains(body, "pack 3 ") {
			body = strings.ToUpper(body)
		}
		path := filepath.Join(source, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: source, Into: data, Name: "r"}); err != nil {
		t.Fatal(err)
	}
	r := opened(t, data)
	report, err := export.Run(t.Context(), export.Options{Repository: r, Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "out"), Verify: true})
	if err != nil || report.Linked.Items != 16 || report.Verified.Items != 15 || report.Problems != 1 {
		t.Errorf("got %+v, %v", report, err)
	}
	if n := len(files(t, filepath.Join(top, "out"))); n != 15 {
		t.Errorf("%d files", n)
	}
}

// TestPace: each name and each read waits for its turn, and who asks for it can end the export.
func TestPace(t *testing.T) {
	items := largeItems()
	size := int64(0)
	for _, body := range items {
		size += int64(len(body))
	}
	a, top := newRepository(t, 0, items)
	for _, c := range []struct {
		copy, verify bool
		want         int64 // bytes, beside those of the names
	}{{false, false, 0}, {true, false, size}, {false, true, size}, {true, true, 2 * size}} {
		var asked atomic.Int64
		o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, fmt.Sprint(c)), Copy: c.copy, Verify: c.verify, FS: noClones{vfs.OS()}}
		o.Pace = func(_ context.Context, n int64) error {
			asked.Add(n)
			return nil
		}
		if _, err := export.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if got := asked.Load() - 3*4<<10; got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
	var mu sync.Mutex
	left := 3
	o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "ended"), Copy: true, FS: noClones{vfs.OS()}}
	o.Pace = func(context.Context, int64) error {
		mu.Lock()
		defer mu.Unlock()
		if left--; left < 0 {
			return context.Canceled
		}
		return nil
	}
	if _, err := export.Run(t.Context(), o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestRealClones: where the file system can, a copy is a clone: a file of its own that takes no space.
func TestRealClones(t *testing.T) {
	one, other := repotest.CloningDir(t)
	items := largeItems()
	a := newRepositoryAt(t, filepath.Join(one, "data"), "borgstore", 0, items)
	dir := filepath.Join(other, "out")
	for _, o := range []export.Options{{Dir: dir}, {Dir: dir + "2", Copy: true, Verify: true}, {Dir: filepath.Join(one, "out"), Copy: true}} {
		o.Repository, o.Layout = a.Repository(), adopt.LayoutBorgStore
		report, err := export.Run(t.Context(), o)
		if err != nil || report.Cloned.Items != 3 || report.Linked.Items+report.Copied.Items != 0 || o.Verify && report.Verified.Items != 3 {
			t.Errorf("got %+v, %v", report, err)
		}
		wantFiles(t, o.Dir, items)
		for path, body := range items {
			if at := filepath.Join(o.Dir, path); len(body) > 1<<10 && !repotest.Shared(t, at) {
				t.Errorf("%s shares no blocks", at)
			}
			if info, err := os.Stat(filepath.Join(o.Dir, path)); err != nil || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Nlink != 1 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
		}
	}
}
