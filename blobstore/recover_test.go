package blobstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"packhouse/blobstore"
)

// in answers Sweep from a list of references.
func in(refs ...blobstore.Ref) func(blobstore.Ref) (bool, error) {
	return func(ref blobstore.Ref) (bool, error) { return slices.Contains(refs, ref), nil }
}

func TestSweep(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	settled := mustPut(t, s, "settled", "")
	mustSettle(t, s, settled)
	recorded := mustPut(t, s, "recorded, not settled", "")
	unrecorded := mustPut(t, s, "never recorded", "")
	halfRemoved := mustPut(t, s, "removed from the shard only", "")
	lost := mustPut(t, s, "recorded, lost by the shard", "")
	for _, ref := range []blobstore.Ref{halfRemoved, lost} {
		if err := os.Remove(blobPath(dir, ref)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := write(s, []byte("the process dies here")); err != nil {
		t.Fatal(err)
	}
	foreign := []string{"README", "0123", "0199F3A1B2C4000102030405060708FF"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, "incoming", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s = open(t, dir, nil)
	removed, err := s.Sweep(context.Background(), in(settled, recorded, lost))
	if err != nil || removed != 3 {
		t.Errorf("got %d, %v; want 3 removed", removed, err)
	}
	for _, name := range foreign {
		if err := os.Remove(filepath.Join(dir, "incoming", name)); err != nil {
			t.Errorf("foreign file: %v", err)
		}
	}
	wantFiles(t, dir, []blobstore.Ref{settled, recorded, lost}, nil)
	wantContent(t, s, settled, []byte("settled"))
	wantContent(t, s, recorded, []byte("recorded, not settled"))
	wantContent(t, s, lost, []byte("recorded, lost by the shard"))
	if _, err := s.Open(unrecorded, unknown); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("unrecorded blob: got %v, want ErrNotFound", err)
	}
	asked := 0
	removed, err = s.Sweep(context.Background(), func(blobstore.Ref) (bool, error) { asked++; return true, nil })
	if err != nil || removed != 0 || asked != 0 {
		t.Errorf("again: %d removed, %v, asked for %d; want nothing", removed, err, asked)
	}
}

// TestSweepAsksFirst: when the index cannot answer for one blob, no other is touched.
func TestSweepAsksFirst(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	var refs []blobstore.Ref
	for i := range 5 {
		refs = append(refs, mustPut(t, s, fmt.Sprint(i), ""))
	}
	s = open(t, dir, nil)
	broken, asked := errors.New("index is broken"), 0
	_, err := s.Sweep(context.Background(), func(ref blobstore.Ref) (bool, error) {
		if asked++; asked == 4 {
			return false, broken
		}
		return asked == 1, nil
	})
	if err != broken {
		t.Errorf("got %v, want the index's error", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Sweep(ended, in()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	wantFiles(t, dir, refs, refs)
}

// TestSweepIsFirst: what is being written must never look like a leftover.
func TestSweepIsFirst(t *testing.T) {
	s, _ := newStore(t)
	w, err := write(s, []byte("under way"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(context.Background(), in()); err == nil {
		t.Error("swept while a blob was being written")
	}
	ref, _, err := w.Commit(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, ref, []byte("under way"))
}

// TestReferenceOfLeftover: the reference that Sweep asks for is the one Commit returned, and its label can be read.
func TestReferenceOfLeftover(t *testing.T) {
	dir := newDir(t)
	ref := mustPut(t, open(t, dir, nil), "content", "the key")
	s := open(t, dir, nil)
	_, err := s.Sweep(context.Background(), func(asked blobstore.Ref) (bool, error) {
		label, _, err := s.Label(asked)
		if asked != ref || string(label) != "the key" || err != nil {
			t.Errorf("asked for %x with label %q, %v; want %x", string(asked), label, err, string(ref))
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}
