package logwriter_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/internal/logwriter"
)

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFileRotates: each line is in one file, the oldest files go, and a restart goes on where the log ended.
func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for i := range 30 {
		f, err := logwriter.OpenFile(logwriter.FileOptions{Path: path, Size: 100, Keep: 2})
		if err != nil {
			t.Fatal(err)
		}
		for j := range 3 {
			if _, err := fmt.Fprintf(f, "line %02d %d, of twenty b\n", i, j); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 3 {
		t.Fatalf("files: %v, %v", entries, err)
	}
	all := text(t, path+".2") + text(t, path+".1") + text(t, path)
	want := ""
	for n := 90 - strings.Count(all, "\n"); n < 90; n++ {
		want += fmt.Sprintf("line %02d %d, of twenty b\n", n/3, n%3)
	}
	if all != want || strings.Count(all, "\n") < 9 {
		t.Errorf("got %q", all)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Size() > 100 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, mode %v, %v", entry.Name(), info.Size(), info.Mode(), err)
		}
	}
}

// TestFileMoved: the lines after a file was moved, or removed, are in a new one.
func TestFileMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	f, err := logwriter.OpenFile(logwriter.FileOptions{Path: path, Size: 1000, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "first")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "second")
	if got := text(t, path+".moved") + text(t, path); got != "first\nsecond\n" {
		t.Errorf("got %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "third")
	if got := text(t, path); got != "third\n" {
		t.Errorf("got %q", got)
	}
}

// TestFileCannotRotate: what cannot be renamed is written on, and no line is lost.
func TestFileCannotRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.MkdirAll(filepath.Join(path+".1", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := logwriter.OpenFile(logwriter.FileOptions{Path: path, Size: 10, Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 3 {
		if _, err := fmt.Fprintln(f, "a longer line"); err != nil {
			t.Error(err)
		}
	}
	if got := text(t, path); strings.Count(got, "\n") != 3 {
		t.Errorf("got %q", got)
	}
}

// TestFileComesBack: a directory that is gone is an error of the lines meanwhile, and of no others.
func TestFileComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	path := filepath.Join(dir, "audit.log")
	if _, err := logwriter.OpenFile(logwriter.FileOptions{Path: path, Size: 1000, Keep: 1}); err == nil {
		t.Fatal("opened in no directory")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := logwriter.OpenFile(logwriter.FileOptions{Path: dir, Size: 1000, Keep: 1}); err == nil {
		t.Fatal("opened a directory")
	}
	f, err := logwriter.OpenFile(logwriter.FileOptions{Path: path, Size: 1000, Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, "lost"); err == nil {
		t.Error("written to no directory")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, "again"); err != nil || text(t, path) != "again\n" {
		t.Errorf("after it came back: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := fmt.Fprintln(f, "closed"); err == nil {
		t.Error("written to a closed log")
	}
}
