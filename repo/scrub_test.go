package repo_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"packhouse/journal"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

func TestDamageShowsAndHeals(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) { damageShowsAndHeals(t, mode.small) })
	}
}

// bytesOf is where an item lies: its file, or a segment of the log, and the offset in it.
func bytesOf(t *testing.T, a *repo.Access, key string) (file string, at int64) {
	t.Helper()
	entry, err := repo.IndexOf(a.Repository()).Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, inLog := journal.ParseRef(entry.Item.Ref); inLog {
		file, place := placeOf(t, a, key)
		return file, place.Offset
	}
	found, err := filepath.Glob(filepath.Join(repo.Dir(a.Repository()), "blobs", "*", fmt.Sprintf("%x", entry.Item.Ref[1:])))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0], 0
}

func damageShowsAndHeals(t *testing.T, small int64) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir, o.Small = dir, small })
	r := create(t, s, "r")
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	mustPut(t, a, "x", "precious")
	file, at := bytesOf(t, a, "x")
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("P"), at); err != nil {
		t.Fatal(err)
	}
	f.Close()
	entry, err := a.Stat(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry, nil); !errors.Is(err, repo.ErrCorrupt) {
		t.Fatalf("verify: got %v", err)
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get of a damaged item: got %v", err)
	}
	// Borg's check asks for the hash of each pack: a wrong one it reports, an error ends it.
	sum, err := a.Hash(ctx, "x", algorithm(t, "sha256"))
	if want := sha256.Sum256([]byte("Precious")); err != nil || !bytes.Equal(sum, want[:]) {
		t.Errorf("hash of a damaged item: got %x, %v; want that of the bytes on disk", sum, err)
	}
	if _, err := put(a, "x", "Precious"); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("mending with other bytes: got %v", err)
	}
	if err := r.Verify(ctx, entry, nil); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("verify again: got %v", err)
	}
	mustPut(t, a, "x", "precious")
	wantContent(t, a, "x", "precious")
}

// An item whose file somebody has brought back is served again, by whatever notices it.
func TestRepairedFileIsServedAgain(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	mustPut(t, a, "x", "precious")
	found := blobPaths(t, filepath.Join(dir, "r"))
	if len(found) != 1 {
		t.Fatal(found)
	}
	verify := func() error {
		entry, err := repo.IndexOf(r).Get("x")
		if err != nil {
			t.Fatal(err)
		}
		return r.Verify(ctx, entry, nil)
	}
	if err := os.Rename(found[0], found[0]+".away"); err != nil {
		t.Fatal(err)
	}
	if err := verify(); !errors.Is(err, repo.ErrCorrupt) {
		t.Fatalf("verify of a missing file: got %v, want ErrCorrupt", err)
	}
	if err := os.Rename(found[0]+".away", found[0]); err != nil {
		t.Fatal(err)
	}
	if n := r.Usage().MissingItems; n != 1 {
		t.Errorf("%d missing items, want 1", n)
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	if n := r.Usage().MissingItems; n != 0 {
		t.Errorf("%d missing items after the file was verified, want none", n)
	}
	wantContent(t, a, "x", "precious")
}
