package index_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"packhouse/index"
)

// changing is an open index of an image, and the file to change its pages in.
type changing struct {
	*index.Index
	*image
	file *os.File
}

func openChanging(t *testing.T, mapSize int) *changing {
	t.Helper()
	m := makeImage(t)
	path := filepath.Join(t.TempDir(), "index.db")
	m.lay(t, path, m.now)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.OpenSized(path, index.Options{}, mapSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(x.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	return &changing{x, m, file}
}

func (c *changing) read(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, c.size)
	if _, err := c.file.ReadAt(b, int64(n*c.size)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *changing) write(t *testing.T, n int, b []byte) {
	t.Helper()
	if _, err := c.file.WriteAt(b, int64(n*c.size)); err != nil {
		t.Fatal(err)
	}
}

// refused wants a checkpoint to be refused before bbolt was led anywhere, while page n is b; and to be accepted afterwards.
func (c *changing) refused(t *testing.T, n int, b []byte) {
	t.Helper()
	sound := c.read(t, n)
	c.write(t, n, b)
	apply(t, c.Index, put("in the log", 1))
	if err := c.Checkpoint(); !errors.Is(err, index.ErrCorrupt) || errors.Is(err, index.ErrFailed) || c.Damage() == nil {
		t.Errorf("checkpoint: got %v, want %v alone; damage %v", err, index.ErrCorrupt, c.Damage())
	}
	c.write(t, n, sound)
	apply(t, c.Index, put("accepted", 1))
	if err := c.Checkpoint(); err != nil {
		t.Errorf("checkpoint: %v", err)
	}
	if report, err := c.Check(background); err != nil || len(report.Problems) > 0 {
		t.Errorf("check: got %q, %v", report.Problems, err)
	}
}

// TestOlderRootBucket: all pages of the trees to which an older leaf of the root bucket leads may be right still. They are free:
// a commit that changed them would free them twice, or have other bytes written to them before they are read.
func TestOlderRootBucket(t *testing.T) {
	c := openChanging(t, 1<<30)
	older := c.read(t, c.RootLeaf())
	applyToFile(t, c.Index, put("a", 1))
	n := c.RootLeaf()
	setPageID(older, n)
	c.refused(t, n, older)
}

// TestFreelistTakesMore: bbolt frees as many pages as the header of the list says that belong to it.
func TestFreelistTakesMore(t *testing.T) {
	c := openChanging(t, 1<<30)
	n := c.Freelist()
	page := c.read(t, n)
	page[12]++
	c.refused(t, n, page)
}

// TestFreelistReadAgain: after a commit that was refused bbolt reads the list of free pages again. If it has a page in use by
// then, nothing is written any more.
func TestFreelistReadAgain(t *testing.T) {
	c := openChanging(t, 1<<25)
	n := c.Freelist()
	page := c.read(t, n)
	if pageCount(page) == 0 || binary.NativeEndian.Uint64(page[headerSize:]) == 2 {
		t.Fatal("the image has no free page but the first")
	}
	used, _ := c.LeafOf("items", "003\x00item")
	for i := range pageCount(page) { // in order
		if id := page[headerSize+8*i:]; binary.NativeEndian.Uint64(id) >= uint64(used) || i+1 == pageCount(page) {
			binary.NativeEndian.PutUint64(id, uint64(used))
			break
		}
	}
	c.write(t, n, page)
	before := c.read(t, used)
	// It needs more than is mapped: that is a commit which is refused, and tried again.
	apply(t, c.Index, index.PutJob{Job: index.Job{ID: "large", Record: make([]byte, 40<<20)}})
	err := c.Checkpoint()
	if !errors.Is(err, index.ErrFailed) || !errors.Is(err, index.ErrCorrupt) || c.Failed() == nil {
		t.Errorf("checkpoint: got %v, want %v, as of %v", err, index.ErrFailed, index.ErrCorrupt)
	}
	if _, err := c.Apply(background, put("b", 1)); !errors.Is(err, index.ErrFailed) {
		t.Errorf("apply: got %v, want %v", err, index.ErrFailed)
	}
	if string(c.read(t, used)) != string(before) {
		t.Error("a page in use was written over")
	}
}

// TestRootOfAnotherTree: with an older version of the pages, one of another tree may lie where a tree begins. What is not in that
// one is not missing.
func TestRootOfAnotherTree(t *testing.T) {
	c := openChanging(t, 1<<30)
	items := c.RootOf("items")
	sound := c.read(t, items)
	var page []byte // the root of another tree, of the same kind
	for _, name := range []string{"refs", "jobs", "locks", "trash", "kept"} {
		if other := c.read(t, c.RootOf(name)); page == nil && pageFlags(other) == pageFlags(sound) {
			page = other
		}
	}
	if page == nil {
		t.Fatal("no tree is of the same kind as that of the items")
	}
	setPageID(page, items)
	c.write(t, items, page)
	if _, err := c.Get("003/item"); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("get: got %v, want %v", err, index.ErrCorrupt)
	}
	c.write(t, items, sound)
	if _, err := c.Get("003/item"); err != nil {
		t.Error(err)
	}
}

// TestOlderVersionOfTheFile: an older version of the whole file, written over the open one, is not taken for what it was.
func TestOlderVersionOfTheFile(t *testing.T) {
	c := openChanging(t, 1<<30)
	applyToFile(t, c.Index, put("a", 1))
	applyToFile(t, c.Index, put("b", 1))
	if _, err := c.file.WriteAt(c.now, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get("b"); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("get: got %v, want %v", err, index.ErrCorrupt)
	}
	if _, err := c.Apply(background, put("c", 1)); !errors.Is(err, index.ErrCorrupt) || errors.Is(err, index.ErrFailed) {
		t.Errorf("apply: got %v, want %v alone", err, index.ErrCorrupt)
	}
	if report, err := c.Check(background); err != nil || len(report.Problems) == 0 {
		t.Errorf("check: got %+v, %v", report, err)
	}
}

// failingReader cannot read some bytes.
type failingReader struct {
	*os.File
	from, to int64
}

func (r *failingReader) ReadAt(b []byte, at int64) (int, error) {
	if at < r.to && at+int64(len(b)) > r.from {
		return 0, syscall.EIO
	}
	return r.File.ReadAt(b, at)
}

// TestUnreadableMetaPage: bbolt looks at both meta pages, so none that cannot be read is left to it, also if the other is the
// newer one.
func TestUnreadableMetaPage(t *testing.T) {
	c := openChanging(t, 1<<30)
	for n := range 2 {
		r := &failingReader{c.file, int64(n * c.size), int64((n + 1) * c.size)}
		if err := index.ReadMetas(r, int64(len(c.now))); !errors.Is(err, index.ErrCorrupt) || !errors.Is(err, syscall.EIO) {
			t.Errorf("page %d: got %v, want %v of %v", n, err, index.ErrCorrupt, syscall.EIO)
		}
	}
	if err := index.ReadMetas(c.file, int64(len(c.now))); err != nil {
		t.Error(err)
	}
}

// TestOlderVersionBehindCommit: an older version of the file that is written over it while a checkpoint becomes durable is not
// shown as what was committed. The rows are in the log still.
func TestOlderVersionBehindCommit(t *testing.T) {
	m := makeImage(t)
	path := filepath.Join(t.TempDir(), "index.db")
	m.lay(t, path, m.now)
	replace := false
	x, err := index.Open(path, index.Options{AfterWrite: func() error {
		if !replace {
			return nil
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(m.now, 0)
		return errors.Join(err, f.Close())
	}})
	if err != nil {
		t.Fatal(err)
	}
	applyToFile(t, x, put("a", 1))
	replace = true
	apply(t, x, put("b", 1))
	if err := x.Checkpoint(); !errors.Is(err, index.ErrFailed) {
		t.Errorf("checkpoint: got %v, want %v", err, index.ErrFailed)
	}
	if _, err := x.Get("a"); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("get: got %v, want %v", err, index.ErrCorrupt)
	}
	if _, err := x.Apply(background, put("c", 1)); !errors.Is(err, index.ErrCorrupt) || x.Lost() == nil {
		t.Errorf("apply: got %v, want %v; lost: %v", err, index.ErrCorrupt, x.Lost())
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	again := open(t, path, index.Options{})
	for _, key := range []string{"a", "b"} {
		if _, err := again.Get(key); err != nil {
			t.Errorf("get %s: %v", key, err)
		}
	}
}
