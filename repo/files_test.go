package repo_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

func writeFile(r *repo.Repository, name, text string) error {
	return r.WriteFile(repo.JobsFolder, name, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

func readFile(t *testing.T, r *repo.Repository, name string) string {
	t.Helper()
	f, err := r.OpenFile(repo.JobsFolder, name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(text)
}

// One of the server's own files is replaced whole or not at all, whichever call fails, and nothing
// is left of the attempt once it was swept.
func TestWriteFileIsWholeOrNot(t *testing.T) {
	failing := vfstest.NewFailing(vfs.OS())
	s := newSet(t, func(o *datadir.Options) { o.FS, o.Index.FS = failing, vfs.OS() }) // the log makes its next segment in the background
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n, hit := 1, true; hit; n++ {
			failing.Reset()
			// A new one for each: a failed sync stays with its repository.
			r := create(t, s, fmt.Sprintf("r-%s-%d", when, n))
			if err := writeFile(r, "a", "old"); err != nil {
				t.Fatal(err)
			}
			failing.Reset()
			failing.FailAt(n, when, syscall.EIO)
			err := writeFile(r, "a", "new")
			hit = failing.Hit()
			failing.Reset()
			got := readFile(t, r, "a")
			switch {
			case got != "old" && got != "new", err == nil && got != "new":
				t.Errorf("call %d fails %v: got %q, %v", n, when, got, err)
			case err != nil && strings.Contains(err.Error(), "/jobs"):
				t.Errorf("call %d fails %v: error shows a path: %v", n, when, err)
			}
			if err := r.SweepFiles(repo.JobsFolder, func(name string) bool { return name == "a" }); err != nil {
				t.Fatal(err)
			}
			if names, err := r.Files(repo.JobsFolder); err != nil || fmt.Sprint(names) != "[a]" {
				t.Errorf("call %d fails %v: files %q, %v", n, when, names, err)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	r := create(t, newSet(t, nil), "r")
	if names, err := r.Files(repo.JobsFolder); err != nil || len(names) != 0 {
		t.Errorf("files of none: got %q, %v", names, err)
	}
	if _, err := r.OpenFile(repo.JobsFolder, "a"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("open: got %v, want ErrNotFound", err)
	}
	refuse := errors.New("refused")
	if err := r.WriteFile(repo.JobsFolder, "a", func(io.Writer) error { return refuse }); !errors.Is(err, refuse) {
		t.Errorf("write: got %v, want %v", err, refuse)
	}
	for _, name := range []string{"b", "a"} {
		if err := writeFile(r, name, name); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := r.Files(repo.JobsFolder); err != nil || fmt.Sprint(names) != "[a b]" {
		t.Errorf("files: got %q, %v, want a and b", names, err)
	}
	for range 2 { // a missing one is fine
		if err := r.RemoveFile(repo.JobsFolder, "a"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if names, err := r.Files(repo.JobsFolder); err != nil || fmt.Sprint(names) != "[b]" {
		t.Errorf("files: got %q, %v, want b", names, err)
	}
}
