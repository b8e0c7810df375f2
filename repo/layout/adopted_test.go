package layout_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
)

func sample(n int) []layout.Adopted {
	all := make([]layout.Adopted, n)
	for i := range all {
		all[i] = layout.Adopted{
			Ref: blobstore.Ref(fmt.Sprintf("\x03%016d", i)), Key: fmt.Sprintf("packs/%02x/%s%04x", i%256, strings.Repeat("0", 60), i),
			Size: int64(i), Modified: time.UnixMilli(int64(i) * 1000), Algorithm: "sha256", Flags: uint8(i % 4),
		}
	}
	return all
}

var origin = layout.Adoption{Dialect: "borgstore", Layout: "borgstore", Source: "/srv/borg", Began: 1}

// writeList writes a list and returns its directory.
func writeList(t testing.TB, all []layout.Adopted) (dir string) {
	t.Helper()
	dir = t.TempDir()
	w, err := layout.NewAdoptionList(vfs.OS(), dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if err := w.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readList(dir string) (adoption layout.Adoption, all []layout.Adopted, err error) {
	r, err := layout.OpenAdoptionList(vfs.OS(), dir)
	if err != nil {
		return adoption, nil, err
	}
	defer r.Close()
	for {
		a, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Adoption, all, nil
		}
		if err != nil {
			return r.Adoption, all, err
		}
		all = append(all, a)
	}
}

// TestAdoptionList: what was added is read back, in blocks or none, and the digest in a name becomes that of the item.
func TestAdoptionList(t *testing.T) {
	for _, n := range []int{0, 1, 5000} {
		want := sample(n)
		adoption, got, err := readList(writeList(t, want))
		if err != nil || adoption != origin || len(got) != n {
			t.Fatalf("%d files: got %d of %+v, %v", n, len(got), adoption, err)
		}
		for i := range want {
			if !got[i].Modified.Equal(want[i].Modified) {
				t.Errorf("time of %d: got %v, want %v", i, got[i].Modified, want[i].Modified)
			}
			if want[i].Modified = got[i].Modified; got[i] != want[i] {
				t.Fatalf("got %+v, want %+v", got[i], want[i])
			}
		}
	}
	item := sample(258)[257].Item(layout.Adoption{Began: time.Now().UnixMilli()})
	if len(item.Sum) != 32 || item.Sum[30] != 1 || item.Sum[31] != 1 || item.Flags != index.FlagUnverified {
		t.Errorf("item: %+v", item)
	}
}

// TestAdoptionListDamaged: a list that is cut anywhere, or of which any byte is another, is damaged, and none of its files is made up.
func TestAdoptionListDamaged(t *testing.T) {
	all := sample(3)
	dir := writeList(t, all)
	path := layout.AdoptionList(dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, got, err := readList(dir)
		if !errors.Is(err, layout.ErrAdoptionList) && !errors.Is(err, blobstore.ErrNewer) {
			t.Errorf("%s: got %d files, %v", what, len(got), err)
		}
		for i := range got {
			if got[i].Key != all[i].Key {
				t.Errorf("%s: got %+v", what, got[i])
			}
		}
	}
	for i := range whole {
		bad(fmt.Sprintf("cut at %d", i), whole[:i])
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		bad(fmt.Sprintf("byte %d", i), b)
	}
}

// TestAdoptionListFormat1 reads a file of format 1.
func TestAdoptionListFormat1(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "adopted-1.list"))
	if err != nil {
		t.Fatal(err)
	}
	dir := writeList(t, nil)
	if err := os.WriteFile(layout.AdoptionList(dir), b, 0o600); err != nil {
		t.Fatal(err)
	}
	adoption, got, err := readList(dir)
	if err != nil || adoption != origin || len(got) != 3 || got[2].Key != sample(3)[2].Key {
		t.Errorf("got %+v, %+v, %v", adoption, got, err)
	}
}

// FuzzAdoptionList: whatever a list holds, reading it ends, and takes no more memory than a block.
func FuzzAdoptionList(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "adopted-1.list"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	dir := writeList(f, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(layout.AdoptionList(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, all, err := readList(dir); err != nil && !errors.Is(err, layout.ErrAdoptionList) && !errors.Is(err, blobstore.ErrNewer) {
			t.Errorf("%d files, %v", len(all), err)
		}
	})
}
