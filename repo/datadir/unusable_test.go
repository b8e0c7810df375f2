package datadir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestUnusable: an opening that failed is remembered until one succeeds or the repository is gone, and only when it says
// something of a repository.
func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lost", "foreign"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"lost/index.db", "foreign/letter.txt"} {
		if err := os.WriteFile(filepath.Join(dir, file), make([]byte, 1<<16), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := datadir.Open(datadir.Options{Dir: dir})
	defer s.Close()
	for _, name := range []string{"lost", "foreign", "missing", ".bad"} {
		if _, err := s.Get(t.Context(), name); err == nil {
			t.Fatalf("%s was opened", name)
		}
	}
	if got := s.Unusable(); len(got) != 1 || !errors.Is(got["lost"], repo.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt of lost", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ended, "lost"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if got := s.Unusable(); !errors.Is(got["lost"], repo.ErrCorrupt) {
		t.Errorf("after a client that left: got %v, want ErrCorrupt of lost", got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "lost")); err != nil {
		t.Fatal(err)
	}
	if got := s.Unusable(); len(got) != 0 {
		t.Errorf("after it was removed: got %v", got)
	}
}
