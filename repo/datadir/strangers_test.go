package datadir_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"packhouse/repo/datadir"
)

// TestStrangers: what a server ignores in its data directory is what its administrator should hear of.
func TestStrangers(t *testing.T) {
	data := t.TempDir()
	for _, name := range []string{".packhouse", "empty", "kept/blobs", "photos/2026", ".hidden", "with blank"} {
		if err := os.MkdirAll(filepath.Join(data, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "repository/index.db"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(data, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A repository may lie elsewhere, behind a link.
	for name, target := range map[string]string{"linked": "repository", "dangling": "nowhere", "to-file": "file", "to-photos": "photos"} {
		if err := os.Symlink(target, filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := datadir.Strangers(data)
	if want := []string{".hidden", "dangling", "file", "photos", "to-file", "to-photos", "with blank"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := datadir.Strangers(filepath.Join(data, "missing")); err != nil || got != nil {
		t.Errorf("without a directory: got %q, %v", got, err)
	}
	if got, want := datadir.Absent(data, []string{"empty", "laptop"}), []string{"laptop"}; !slices.Equal(got, want) {
		t.Errorf("absent: got %q, want %q", got, want)
	}
}
