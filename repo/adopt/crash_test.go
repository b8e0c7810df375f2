package adopt_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// smallTree has a few items of each kind.
func smallTree() tree {
	t := tree{"config/manifest": "m", "config/id": "i", "archives/" + sha("a"): "", "keys/" + sha("k"): "k"}
	for i := range 6 {
		body := fmt.Sprint("pack ", i)
		t["packs/"+sha(body)[:2]+"/"+sha(body)] = body
	}
	return t
}

// failing are the options of an adoption whose file calls go through fsys, those of the index too.
func failing(t *testing.T, source, data string, fsys vfs.FS) adopt.Options {
	o := options(source, data)
	o.FS = fsys
	o.Index = index.Options{Database: vfstest.Bolt(t, fsys)}
	return o
}

// callsOf are the numbers, from 1, of the calls at which an adoption is to be interrupted: all but most of those that make the same
// directories.
func callsOf(t *testing.T, method string) (numbers []int) {
	source, data := sides(t)
	smallTree().write(t, source)
	fsys := vfstest.NewFailing(taking(vfs.OS(), source, method))
	mustAdopt(t, failing(t, source, data, fsys))
	same := make(map[string]int)
	for n, call := range fsys.Calls() {
		if call.Op == vfstest.Mkdir || call.Op == vfstest.SyncDir {
			kind := string(call.Op)
			if strings.Contains(call.Name, "/blobs/") {
				kind += " of a shard"
			}
			if same[kind]++; same[kind] > 3 && !strings.HasSuffix(call.Name, "/ff") && strings.Contains(call.Name, "/blobs/") {
				continue
			}
		}
		numbers = append(numbers, n+1)
	}
	if len(numbers) < 30 {
		t.Fatalf("only %d calls", len(numbers))
	}
	return numbers
}

// TestPowerFailsAnywhere: wherever an adoption is interrupted, and whatever of what was not synced is lost, there is no repository that lacks
// something, the source is unchanged, and adopting again completes it.
func TestPowerFailsAnywhere(t *testing.T) {
	for _, method := range []string{"link", "copy"} {
		for _, n := range callsOf(t, method) {
			for seed := range uint64(2) {
				if method == "copy" && (seed == 0 || n%2 > 0) {
					continue // each file makes the same calls
				}
				t.Run(fmt.Sprintf("%s/%d/%d", method, n, seed), func(t *testing.T) { powerFails(t, method, n, seed) })
			}
		}
	}
}

func powerFails(t *testing.T, method string, n int, seed uint64) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	before := inodes(t, source)
	lossy := vfstest.NewLossy(t, data)
	fsys := vfstest.NewFailing(taking(lossy, source, method))
	fsys.StopAt(n, vfstest.Before, syscall.EIO)
	_, err := adopt.Run(ctx, failing(t, source, data, fsys))
	var random *rand.Rand // nil forgets everything
	if seed > 0 {
		random = rand.New(rand.NewPCG(seed, uint64(n)))
	}
	if err := lossy.Crash(random); err != nil {
		t.Fatal(err)
	}
	wantNoneOrAll(t, source, data, items, err == nil)
	wantSame(t, "the source", inodes(t, source), before)
	if datadir.Inspect(filepath.Join(data, "r")) != nil {
		o := options(source, data)
		o.FS = taking(vfs.OS(), source, method)
		mustAdopt(t, o)
	}
	wantNoneOrAll(t, source, data, items, true)
	wantSame(t, "the source", inodes(t, source), before)
	if method == "link" {
		wantBlobs(t, data, len(items))
	} else if n := blobs(t, data); n > 2*len(items) || n < len(items) { // checksums may have been torn
		t.Errorf("%d blobs and checksums of %d items", n, len(items))
	}
}

// taking is fsys, on which files of the source can be linked, or only be copied.
func taking(fsys vfs.FS, source, method string) vfs.FS {
	if method == "link" {
		return fsys
	}
	return &otherMount{FS: fsys, source: source, never: true}
}

// wantNoneOrAll wants no repository, in whose place none can be created once something was taken in, or all of it.
func wantNoneOrAll(t *testing.T, source, data string, items tree, done bool) {
	t.Helper()
	s := datadir.Open(datadir.Options{Dir: data})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	r, err := s.Get(ctx, "r")
	switch {
	case err == nil:
		wantItems(t, r.As(repo.Principal{}), source, items)
		return
	case done:
		t.Fatalf("get: %v, want the repository", err)
	case errors.Is(err, repo.ErrBusy):
		if _, err := s.Create(ctx, "r", "borgstore"); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("create: got %v, want ErrBusy", err)
		}
		if names, err := s.Names(); err != nil || len(names) != 1 {
			t.Errorf("names: got %q, %v", names, err)
		}
	case errors.Is(err, repo.ErrNoRepository):
		if blobs(t, data) > 0 {
			t.Error("blobs lie where anybody may create a repository")
		}
	default:
		t.Errorf("get: %v, want ErrBusy or ErrNoRepository", err)
	}
}

func blobs(t *testing.T, data string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "r", "blobs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// wantBlobs wants nothing to be left of interrupted tries.
func wantBlobs(t *testing.T, data string, n int) {
	t.Helper()
	if got := blobs(t, data); got != n {
		t.Errorf("%d blobs, want %d", got, n)
	}
	for _, name := range []string{"index.db.adopting", "index.db.rebuilt", "adopted/list.new"} {
		if _, err := os.Stat(filepath.Join(data, "r", name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFullDisk: a write that finds the disk full, or that fails without an effect, ends the adoption, and the next one completes it.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		method string
		when   vfstest.When
	}{{"link", vfstest.Before}, {"link", vfstest.After}, {"copy", vfstest.Before}} {
		for _, n := range callsOf(t, c.method) {
			if c.method == "copy" && n%3 > 0 {
				continue // each file makes the same calls
			}
			t.Run(fmt.Sprintf("%s/%s/%d", c.method, c.when, n), func(t *testing.T) {
				source, data := sides(t)
				items := smallTree()
				items.write(t, source)
				fsys := vfstest.NewFailing(taking(vfs.OS(), source, c.method))
				fsys.FailAt(n, c.when, syscall.ENOSPC)
				_, err := adopt.Run(ctx, failing(t, source, data, fsys))
				wantNoneOrAll(t, source, data, items, err == nil)
				if datadir.Inspect(filepath.Join(data, "r")) != nil {
					o := options(source, data)
					o.FS = taking(vfs.OS(), source, c.method)
					mustAdopt(t, o)
				}
				wantNoneOrAll(t, source, data, items, true)
			})
		}
	}
}

// TestSourceChangesBetweenTries: what an interrupted adoption had taken in and the source no longer has so is not there when the next one
// completes it.
func TestSourceChangesBetweenTries(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	fsys := vfstest.NewFailing(vfs.OS())
	fsys.FailOp(vfstest.Rename, 3, vfstest.Before, syscall.EIO) // the mark, the list, the index
	if _, err := adopt.Run(ctx, failing(t, source, data, fsys)); err == nil {
		t.Fatal("adopt: no error")
	}
	if n := blobs(t, data); n != len(items) {
		t.Fatalf("%d blobs before the index, want %d", n, len(items))
	}
	delete(items, "config/id")
	if err := os.Remove(filepath.Join(source, "config", "id")); err != nil {
		t.Fatal(err)
	}
	items["config/manifest"], items["archives/"+sha("new")] = "another manifest", ""
	for _, name := range []string{"config/manifest", "archives/" + sha("new")} {
		path := filepath.Join(source, name)
		if err := errors.Join(os.WriteFile(path+".tmp", []byte(items[name]), 0o600), os.Rename(path+".tmp", path)); err != nil {
			t.Fatal(err)
		}
	}
	mustAdopt(t, options(source, data))
	wantBlobs(t, data, len(items))
	_, a := open(t, data)
	wantItems(t, a, source, items)
}

// TestMarkOfAnotherSource: a repository that is being adopted is not mixed with another.
func TestMarkOfAnotherSource(t *testing.T) {
	source, data := sides(t)
	smallTree().write(t, source)
	fsys := vfstest.NewFailing(vfs.OS())
	fsys.FailOp(vfstest.Rename, 3, vfstest.Before, syscall.EIO)
	if _, err := adopt.Run(ctx, failing(t, source, data, fsys)); err == nil {
		t.Fatal("adopt: no error")
	}
	other := filepath.Join(filepath.Dir(source), "other")
	smallTree().write(t, other)
	if _, err := adopt.Run(ctx, options(other, data)); err == nil || !strings.Contains(err.Error(), source) {
		t.Errorf("got %v, want it to name %s", err, source)
	}
}

// opening is a file system on which a server opens the repository as soon as it has its index, and removes the mark.
type opening struct {
	vfs.FS
	t    *testing.T
	data string
}

func (o opening) OpenTree(name string) (vfs.Tree, error) { return vfs.OpenTree(o.FS, name) }

func (o opening) Rename(from, to string) error {
	err := o.FS.Rename(from, to)
	if filepath.Base(to) == layout.IndexFile {
		open(o.t, o.data)
	}
	return err
}

// TestServerOpensAtOnce: a request may come between the index, which makes it a repository, and the end of the adoption.
func TestServerOpensAtOnce(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	o := options(source, data)
	o.FS = opening{vfs.OS(), t, data}
	mustAdopt(t, o)
	wantBlobs(t, data, len(items))
}

// otherMount is a file system on which nothing of the source can be linked, and everything can be cloned.
type otherMount struct {
	vfs.FS
	source string
	full   bool // as far as it says
	never  bool // cannot be cloned either
	clones atomic.Int32
}

func (m *otherMount) OpenTree(name string) (vfs.Tree, error) {
	return vfstest.OpenTree(m.FS, name, vfstest.TreeHooks{Link: func(from, to string, do func() error) error {
		if strings.HasPrefix(from, m.source) {
			return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EXDEV}
		}
		return do()
	}})
}

func (m *otherMount) Create(name string) (vfs.File, error) {
	file, err := m.FS.Create(name)
	return clonable{file, m}, err
}

func (m *otherMount) Space(name string) (free, total int64, err error) {
	if m.full {
		return 64<<20 + 20<<10, 1 << 30, nil // enough for a list and an index
	}
	return m.FS.Space(name)
}

type clonable struct {
	vfs.File
	m *otherMount
}

func (c clonable) CloneOf(source vfs.File) error {
	if c.m.never {
		return errors.ErrUnsupported
	}
	b, err := io.ReadAll(source)
	if err == nil {
		_, err = c.Write(b)
	}
	c.m.clones.Add(1)
	return err
}

// TestClone: where files cannot be linked but cloned, they are, also without free space, and nothing is known of their bytes. Where they cannot be
// cloned either, and copies do not fit, nothing is begun.
func TestClone(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	o := options(source, data)
	mount := &otherMount{FS: vfs.OS(), source: source, full: true, never: true}
	o.FS = mount
	if _, err := adopt.Run(ctx, o); err == nil || !strings.Contains(err.Error(), "copies of 10 that are on another file system") || !strings.Contains(err.Error(), "choose a data directory") {
		t.Errorf("copies on a full disk: %v", err)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	mount.never = false
	if s := mustAdopt(t, o); s.Method != "copy" || int(mount.clones.Load()) < len(items) {
		t.Errorf("survey: %+v; %d clones", s, mount.clones.Load())
	}
	_, a := open(t, data)
	wantItems(t, a, source, items)
	if u := a.Repository().Usage(); u.UnverifiedItems != int64(len(items)) {
		t.Errorf("usage: %+v", u)
	}
}

// TestMountInSource: files of the source on another file system than the rest of it are copied, the rest is linked; also when the first try was
// interrupted.
func TestMountInSource(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	o := options(source, data)
	fsys := vfstest.NewFailing(&otherMount{FS: vfs.OS(), source: filepath.Join(source, "packs"), never: true})
	fsys.FailOp(vfstest.Rename, 3, vfstest.Before, syscall.EIO) // the index
	o.FS = fsys
	if _, err := adopt.Run(ctx, o); err == nil {
		t.Fatal("adopt: no error")
	}
	if s := mustAdopt(t, o); s.Method != "link" {
		t.Errorf("survey: %+v", s)
	}
	wantBlobs(t, data, len(items)+6) // with their checksums
	_, a := open(t, data)
	wantItems(t, a, source, items)
	if u := a.Repository().Usage(); u.UnverifiedItems != int64(len(items)-6) {
		t.Errorf("usage: %+v", u)
	}
}
