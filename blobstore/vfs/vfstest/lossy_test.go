package vfstest_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

// world is a Lossy and its directory, with short names.
type world struct {
	t   *testing.T
	dir string
	l   *vfstest.Lossy
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.l = vfstest.NewLossy(t, w.dir)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// file makes one with synced and then unsynced content.
func (w *world) file(name, synced, unsynced string) {
	w.t.Helper()
	file, err := w.l.Create(w.path(name))
	w.must(err)
	_, err = file.Write([]byte(synced))
	w.must(err)
	w.must(file.Sync())
	_, err = file.Write([]byte(unsynced))
	w.must(err)
	w.must(file.Close())
}

func (w *world) sync(dirs ...string) {
	w.t.Helper()
	for _, dir := range dirs {
		w.must(w.l.SyncDir(w.path(dir)))
	}
}

// tree lists every file with its content and every directory, sorted.
func (w *world) tree() []string {
	w.t.Helper()
	list := []string{}
	w.must(filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == w.dir {
			return err
		}
		name, err := filepath.Rel(w.dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			list = append(list, name+"/")
			return nil
		}
		content, err := os.ReadFile(path)
		list = append(list, name+"="+string(content))
		return err
	}))
	return list
}

func TestLossy(t *testing.T) {
	tests := []struct {
		name string
		do   func(w *world)
		want string
	}{
		{"nothing", func(w *world) {}, ""},
		{"file without its directory's sync", func(w *world) { w.file("a", "x", "") }, ""},
		{"unsynced bytes", func(w *world) { w.file("a", "x", "y"); w.sync(".") }, "a=x"},
		{"synced after closing the first name", func(w *world) {
			w.file("a", "x", "")
			w.sync(".")
			w.must(w.l.Link(w.path("a"), w.path("b")))
		}, "a=x"},
		{"link synced, first name not", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.sync(".")
			w.file("a", "x", "y")
			w.must(w.l.Link(w.path("a"), w.path("d/b")))
			w.sync("d")
		}, "d/ d/b=x"},
		{"removed, not synced", func(w *world) {
			w.file("a", "x", "y")
			w.sync(".")
			w.must(w.l.Remove(w.path("a")))
		}, "a=x"},
		{"removed and synced", func(w *world) {
			w.file("a", "x", "y")
			w.sync(".")
			w.must(w.l.Remove(w.path("a")))
			w.sync(".")
		}, ""},
		{"created and removed", func(w *world) {
			w.file("a", "x", "y")
			w.must(w.l.Remove(w.path("a")))
		}, ""},
		{"removed and created again", func(w *world) {
			w.file("a", "x", "")
			w.sync(".")
			w.must(w.l.Remove(w.path("a")))
			w.file("a", "z", "")
		}, "a=x"},
		{"renamed over, not synced", func(w *world) {
			w.file("a", "x", "")
			w.file("b", "z", "")
			w.sync(".")
			w.must(w.l.Rename(w.path("b"), w.path("a")))
		}, "a=x b=z"},
		{"renamed over, synced", func(w *world) {
			w.file("a", "x", "")
			w.file("b", "z", "")
			w.must(w.l.Rename(w.path("b"), w.path("a")))
			w.sync(".")
		}, "a=z"},
		{"renamed across, old directory synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("a", "x", "")
			w.sync(".")
			w.must(w.l.Rename(w.path("a"), w.path("d/a")))
			w.sync(".")
		}, "d/"},
		{"renamed across, new directory synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("a", "x", "")
			w.sync(".")
			w.must(w.l.Rename(w.path("a"), w.path("d/a")))
			w.sync("d")
		}, "a=x d/ d/a=x"},
		{"directory without its parent's sync", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			w.sync("d")
		}, ""},
		{"parent's sync alone", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			w.sync(".")
		}, "d/"},
		{"tree removed, not synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "y")
			w.sync("d", ".")
			w.file("d/b", "z", "")
			w.must(w.l.RemoveAll(w.path("d")))
		}, "d/ d/a=x"},
		{"tree removed, another of its name synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			w.sync("d", ".")
			w.must(w.l.RemoveAll(w.path("d")))
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/b", "z", "")
			w.sync("d", ".")
		}, "d/ d/b=z"},
		{"directory renamed, not synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			w.sync("d", ".")
			w.must(w.l.Rename(w.path("d"), w.path("e")))
			w.file("e/b", "z", "")
		}, "d/ d/a=x"},
		{"directory renamed and synced, content not", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			w.must(w.l.Rename(w.path("d"), w.path("e")))
			w.sync(".")
		}, "e/"},
		{"directory renamed, content synced under the new name", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			w.must(w.l.Rename(w.path("d"), w.path("e")))
			w.sync("e", ".")
		}, "e/ e/a=x"},
		{"a file that others wrote", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.sync(".")
			w.must(os.WriteFile(w.path("d/database"), []byte("rows"), 0o600))
			w.file("d/a", "x", "")
		}, "d/ d/database=rows"},
		{"a file that others wrote, renamed", func(w *world) {
			w.must(os.WriteFile(w.path("database"), []byte("rows"), 0o600))
			w.must(w.l.Rename(w.path("database"), w.path("old")))
			w.must(os.WriteFile(w.path("old"), []byte("more"), 0o600))
		}, "database=more"},
		{"removing what is missing", func(w *world) {
			if err := w.l.Remove(w.path("a")); !errors.Is(err, fs.ErrNotExist) {
				w.t.Errorf("got %v, want not exist", err)
			}
			w.must(w.l.RemoveAll(w.path("a")))
		}, ""},
		{"removing a full directory", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "")
			if err := w.l.Remove(w.path("d")); err == nil {
				w.t.Error("removed")
			}
			w.sync(".", "d")
		}, "d/ d/a=x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			test.do(w)
			w.must(w.l.Crash(nil))
			if got := strings.Join(w.tree(), " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestLossyRandom: what is synced always stays, a prefix of the rest may.
func TestLossyRandom(t *testing.T) {
	synced, unsynced := strings.Repeat("s", 3000), strings.Repeat("u", 9000)
	sizes, entries, zeros := make(map[int]bool), make(map[int]bool), false
	for seed := range uint64(60) {
		w := newWorld(t)
		w.file("a", synced, unsynced)
		w.sync(".")
		for _, name := range []string{"b", "c", "d"} {
			w.must(w.l.Mkdir(w.path(name)))
		}
		w.must(w.l.Rename(w.path("a"), w.path("z")))
		w.must(w.l.Crash(rand.New(rand.NewPCG(seed, 1))))

		left := names(t, w.dir)
		file := left[len(left)-1]
		if (file == "z") == slices.Contains(left, "a") {
			t.Fatalf("seed %d: rename is half done: %v", seed, left)
		}
		left = slices.DeleteFunc(left, func(name string) bool { return name == "a" || name == "z" })
		if want := []string{"b", "c", "d"}[:len(left)]; !slices.Equal(left, want) {
			t.Errorf("seed %d: directories %v, want %v", seed, left, want)
		}
		if file == "z" && len(left) < 3 {
			t.Errorf("seed %d: the rename stayed, what came before it did not: %v", seed, left)
		}
		entries[len(left)] = true

		if file != "z" {
			file = "a"
		}
		content, err := os.ReadFile(w.path(file))
		w.must(err)
		if !bytes.HasPrefix(content, []byte(synced)) {
			t.Errorf("seed %d: synced bytes are gone: %d bytes left", seed, len(content))
			continue
		}
		rest := bytes.Trim(content[len(synced):], "u")
		zeros = zeros || len(rest) > 0
		sizes[len(content)] = true
	}
	if len(sizes) < 10 || len(entries) < 3 || !zeros {
		t.Errorf("too uniform: %d sizes, %d prefixes, zeros %v", len(sizes), len(entries), zeros)
	}
}

func TestLossyAfterCrash(t *testing.T) {
	w := newWorld(t)
	file, err := w.l.Create(w.path("a"))
	w.must(err)
	w.must(w.l.Crash(nil))
	_, writeErr := file.Write([]byte("x"))
	_, createErr := w.l.Create(w.path("b"))
	_, openErr := w.l.Open(w.path("b"))
	_, readErr := w.l.ReadDir(w.dir)
	_, statErr := w.l.Stat(w.dir)
	_, _, spaceErr := w.l.Space(w.dir)
	for name, err := range map[string]error{
		"write": writeErr, "sync": file.Sync(), "create": createErr, "open": openErr, "readdir": readErr, "stat": statErr, "space": spaceErr,
		"link": w.l.Link(w.path("a"), w.path("b")), "rename": w.l.Rename(w.path("a"), w.path("b")),
		"remove": w.l.Remove(w.path("a")), "removeall": w.l.RemoveAll(w.path("a")),
		"mkdir": w.l.Mkdir(w.path("d")), "syncdir": w.l.SyncDir(w.dir), "crash": w.l.Crash(nil),
	} {
		if !errors.Is(err, vfstest.ErrCrashed) {
			t.Errorf("%s: got %v, want ErrCrashed", name, err)
		}
	}
	w.must(file.Close())
	if got := w.tree(); len(got) != 0 {
		t.Errorf("got %v, want an empty directory", got)
	}
}

// TestLossyLimits: what the model does not cover is refused, not modelled wrongly.
func TestLossyLimits(t *testing.T) {
	w := newWorld(t)
	w.must(w.l.Mkdir(w.path("d")))
	w.must(w.l.Mkdir(w.path("e")))
	if err := w.l.Rename(w.path("d"), w.path("e/d")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("directory to another one: got %v, want unsupported", err)
	}
}

var _ vfs.FS = (*vfstest.Lossy)(nil)
