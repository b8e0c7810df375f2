package datadir_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// TestNamesOfTwoParts: each name has a directory of its own beside the others, and is found again by it.
func TestNamesOfTwoParts(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	names := []string{"alice", "alice/laptop", "alice/mein büro", "bob@example.org", "Ωmega/x+y=z,~"}
	for _, name := range names {
		r := create(t, s, name)
		mustPut(t, r.As(repo.Principal{}), "x", name)
		if r.Name() != name {
			t.Errorf("name of %q: got %q", name, r.Name())
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.ContainsAny(entry.Name(), " @/ü") || !entry.IsDir() {
			t.Errorf("entry %q of the data directory", entry.Name())
		}
	}
	if found, err := s.Names(); err != nil || !slices.Equal(found, names[:4]) && !slices.Equal(found, slices.Sorted(slices.Values(names))) {
		t.Errorf("names: got %q, %v", found, err)
	}
	if strangers, err := datadir.Strangers(dir); err != nil || len(strangers) != 0 {
		t.Errorf("strangers: got %q, %v", strangers, err)
	}
	if absent := datadir.Absent(dir, []string{"alice/laptop", "alice/other"}); !slices.Equal(absent, []string{"alice/other"}) {
		t.Errorf("absent: got %q", absent)
	}
	if err := s.Destroy(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(context.Background(), "alice/laptop"); err != nil {
		t.Errorf("destroying a repository touched one below its name: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, layout.DirName("bob@example.org"), layout.IndexFile)); err != nil {
		t.Fatal(err)
	}
	if lost := datadir.LostIndexes(dir); len(lost) > 1 || len(lost) == 1 && lost[0] != "bob@example.org" {
		t.Errorf("lost indexes: got %q", lost)
	}
}

// FuzzName: names and directories are each other's only partners, and a directory is always one entry.
func FuzzName(f *testing.F) {
	for _, name := range []string{"a", "a/b", "a%2Fb", "ü", "..", "%2e%2e", "a\x00", "%", "%zz"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		dir := layout.DirName(name)
		if back, ok := layout.NameOf(dir); !ok || back != name {
			t.Errorf("%q has directory %q, whose name is %q, %v", name, dir, back, ok)
		}
		if datadir.CheckName(name) == nil && (strings.ContainsAny(dir, "/\x00") || dir == "" || dir[0] == '.' || len(dir) > 255) {
			t.Errorf("%q has directory %q", name, dir)
		}
		if of, ok := layout.NameOf(name); ok && layout.DirName(of) != name {
			t.Errorf("directory %q has name %q, whose directory is %q", name, of, layout.DirName(of))
		}
	})
}
