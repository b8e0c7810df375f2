package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
)

// unknown and asStored are for a caller that has recorded nothing of a blob.
var (
	unknown  = blobstore.Info{Size: -1}
	asStored = blobstore.Check{Want: unknown}
)

// sized is for a caller that knows the size alone.
func sized(n int64) blobstore.Info { return blobstore.Info{Size: n} }

// newDir makes the directories of an empty store.
func newDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := blobstore.Init(vfs.OS(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// open opens a store in dir; fsys nil is the operating system's.
func open(t testing.TB, dir string, fsys vfs.FS) *blobstore.Store {
	t.Helper()
	s, err := blobstore.Open(blobstore.Options{Dir: dir, FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newStore is an empty store on the operating system's files. When the test ends its blobs
// must all be whole.
func newStore(t testing.TB) (*blobstore.Store, string) {
	t.Helper()
	dir := newDir(t)
	s := open(t, dir, nil)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		err := s.Walk(context.Background(), func(ref blobstore.Ref, _ []byte, info blobstore.Info, err error) error {
			if err != nil {
				return err
			}
			found, err := s.Verify(context.Background(), ref, asStored)
			if found.Info != info {
				t.Errorf("blob %x: found %v, recorded %v", string(ref), found.Info, info)
			}
			return err
		})
		if err != nil {
			t.Errorf("at the end: %v", err)
		}
	})
	return s, dir
}

// write starts a blob with content.
func write(s *blobstore.Store, content []byte) (*blobstore.Writer, error) {
	w, err := s.Create(context.Background(), -1)
	if err != nil {
		return nil, err
	}
	if n, err := w.Write(content); err != nil || n != len(content) {
		w.Abort()
		return nil, errors.Join(err)
	}
	return w, nil
}

// put commits a blob; it is not settled.
func put(s *blobstore.Store, content []byte, label string) (blobstore.Ref, error) {
	w, err := write(s, content)
	if err != nil {
		return "", err
	}
	ref, info, err := w.Commit(context.Background(), []byte(label))
	if err != nil {
		return "", err
	}
	if want := infoOf(content); info != want {
		return "", fmt.Errorf("commit returned %v, want %v", info, want)
	}
	return ref, nil
}

func mustPut(t testing.TB, s *blobstore.Store, content, label string) blobstore.Ref {
	t.Helper()
	ref, err := put(s, []byte(content), label)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func mustSettle(t testing.TB, s *blobstore.Store, ref blobstore.Ref) {
	t.Helper()
	if err := s.Settle(ref); err != nil {
		t.Fatal(err)
	}
}

// get reads a blob whole, through a Section.
func get(s *blobstore.Store, ref blobstore.Ref) ([]byte, error) {
	b, err := s.Open(ref, unknown)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	section, err := b.Section(0, b.Size())
	if err != nil {
		return nil, err
	}
	return io.ReadAll(section)
}

func wantContent(t testing.TB, s *blobstore.Store, ref blobstore.Ref, want []byte) {
	t.Helper()
	if got, err := get(s, ref); err != nil || !bytes.Equal(got, want) {
		t.Errorf("blob %x: got %.40q (%d bytes), %v; want %.40q (%d bytes)", string(ref), got, len(got), err, want, len(want))
	}
	if info, err := s.Verify(context.Background(), ref, asStored); err != nil || info.Info != infoOf(want) {
		t.Errorf("verify %x: got %v, %v; want %v", string(ref), info.Info, err, infoOf(want))
	}
}

func infoOf(content []byte) blobstore.Info {
	return blobstore.Info{Size: int64(len(content)), BLAKE3: blake3.Sum256(content)}
}

// random is content that does not compress or repeat.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// blobPath is where doc.go says that a blob lies.
func blobPath(dir string, ref blobstore.Ref) string {
	name := fmt.Sprintf("%x", string(ref[1:]))
	return filepath.Join(dir, "blobs", name[30:], name)
}

func sumsPath(dir string, ref blobstore.Ref) string { return blobPath(dir, ref) + ".sums" }

func incomingPath(dir string, ref blobstore.Ref) string {
	return filepath.Join(dir, "incoming", fmt.Sprintf("%x", string(ref[1:])))
}

// files lists what lies below dir, sorted, relative to it.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"blobs/*/*", "incoming/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			list = append(list, strings.TrimPrefix(name, dir+"/"))
		}
	}
	return list
}

// wantFiles compares the files below dir with the blobs that should be there; markers are
// those not settled.
func wantFiles(t testing.TB, dir string, blobs, markers []blobstore.Ref) {
	t.Helper()
	want := make(map[string]bool)
	for _, ref := range blobs {
		want[strings.TrimPrefix(blobPath(dir, ref), dir+"/")] = true
		want[strings.TrimPrefix(sumsPath(dir, ref), dir+"/")] = true
	}
	for _, ref := range markers {
		want[strings.TrimPrefix(incomingPath(dir, ref), dir+"/")] = true
	}
	if got, want := files(t, dir), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Errorf("files: got %q, want %q", got, want)
	}
}

func mustStat(t testing.TB, name string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
