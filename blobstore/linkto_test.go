package blobstore_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"packhouse/blobstore"
)

// TestLinkTo: a file that is a blob and nothing else gets another name, and any other does not.
func TestLinkTo(t *testing.T) {
	s, dir := newStore(t)
	content := random(1, 10_000)
	ref := mustPut(t, s, string(content), "label")
	mustSettle(t, s, ref)
	name := filepath.Join(dir, "outside")
	for _, c := range []struct {
		what   string
		ref    blobstore.Ref
		size   int64
		linked bool
		err    error
	}{
		{"another size", ref, 9_999, false, nil},
		{"a file", ref, 10_000, true, nil},
		{"a name that is taken", ref, 10_000, false, fs.ErrExist},
		{"no such blob", blobstore.Ref("\x03" + string(make([]byte, 16))), 1, false, blobstore.ErrNotFound},
		{"a file with a trailer", blobstore.Ref("\x01" + string(ref[1:])), 10_000, false, nil},
		{"no reference to a file", "", 1, false, nil},
	} {
		if linked, err := s.LinkTo(c.ref, c.size, name); linked != c.linked || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v; want %v, %v", c.what, linked, err, c.linked, c.err)
		}
	}
	if !os.SameFile(mustStat(t, name), mustStat(t, blobPath(dir, ref))) {
		t.Error("not the same file")
	}
	for _, mode := range []fs.FileMode{0o000, 0o600 | fs.ModeSetuid} {
		if err := os.Chmod(blobPath(dir, ref), mode); err != nil {
			t.Fatal(err)
		}
		if linked, err := s.LinkTo(ref, 10_000, name+"2"); linked || err != nil {
			t.Errorf("mode %v: got %v, %v", mode, linked, err)
		}
	}
	if err := os.Chmod(blobPath(dir, ref), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ref); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != string(content) {
		t.Errorf("after the removal of the blob: %d bytes, %v", len(b), err)
	}
}
