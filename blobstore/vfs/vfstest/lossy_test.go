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

// rewrite opens a file for writing in place.
func (w *world) rewrite(name string, change func(vfs.File) error) {
	w.t.Helper()
	file, err := w.l.OpenWrite(w.path(name))
	w.must(err)
	w.must(change(file))
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
		{"file system synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.file("d/a", "x", "y")
			w.must(w.l.SyncFileSystem(w.dir))
			w.file("d/b", "x", "")
		}, "d/ d/a=xy"},
		{"written over, not synced", func(w *world) {
			w.file("a", "0123456789", "")
			w.sync(".")
			w.rewrite("a", func(f vfs.File) error {
				_, err := f.WriteAt([]byte("xx"), 4)
				return errors.Join(err, f.Truncate(7), f.Truncate(20))
			})
		}, "a=0123456789"},
		{"written over and synced", func(w *world) {
			w.file("a", "0123456789", "")
			w.sync(".")
			w.rewrite("a", func(f vfs.File) error {
				_, err := f.WriteAt([]byte("xx"), 4)
				_, laterErr := f.WriteAt([]byte("y"), 6)
				return errors.Join(err, laterErr, f.Truncate(7), f.Sync(), f.Truncate(3))
			})
		}, "a=0123xxy"},
		{"synced through another descriptor", func(w *world) {
			w.file("a", "0123456789", "more")
			w.sync(".")
			w.rewrite("a", vfs.File.Sync)
		}, "a=0123456789more"},
		{"allocated, not synced", func(w *world) {
			w.file("a", "0123", "")
			w.sync(".")
			w.rewrite("a", func(f vfs.File) error { return f.(vfs.Allocator).Allocate(0, 2000) })
		}, "a=0123"},
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
		{"directory moved, old place synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.must(w.l.Mkdir(w.path("e")))
			w.must(w.l.Mkdir(w.path("d/c")))
			w.file("d/c/a", "x", "")
			w.sync("d/c", "d", ".")
			w.must(w.l.Rename(w.path("d/c"), w.path("e/c")))
			w.file("e/c/b", "z", "")
			w.sync("e/c", "d")
		}, "d/ d/c/ d/c/a=x d/c/b=z e/"},
		{"directory moved, new place synced", func(w *world) {
			w.must(w.l.Mkdir(w.path("d")))
			w.must(w.l.Mkdir(w.path("e")))
			w.must(w.l.Mkdir(w.path("d/c")))
			w.file("d/c/a", "x", "")
			w.sync("d/c", "d", ".")
			w.must(w.l.Rename(w.path("d/c"), w.path("e/c")))
			w.sync("e")
		}, "d/ e/ e/c/ e/c/a=x"},
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

// TestLossyRewrites: each block has what any of the writes since the sync, or none, has left there; the size is one that the
// file had, or lies between.
func TestLossyRewrites(t *testing.T) {
	blocks, sizes := make(map[string]bool), make(map[int]bool)
	for seed := range uint64(200) {
		w := newWorld(t)
		w.file("a", strings.Repeat("s", 2048), "")
		w.sync(".")
		w.rewrite("a", func(f vfs.File) error {
			_, err := f.WriteAt(bytes.Repeat([]byte("1"), 1024), 512) // blocks 1 and 2
			_, later := f.WriteAt(bytes.Repeat([]byte("2"), 700), 1024)
			err = errors.Join(err, later, f.Truncate(1536))
			_, later = f.WriteAt(bytes.Repeat([]byte("3"), 1024), 2048) // block 3 is zeros now
			return errors.Join(err, later)
		})
		w.must(w.l.Crash(rand.New(rand.NewPCG(seed, 2))))
		content, err := os.ReadFile(w.path("a"))
		w.must(err)
		sizes[len(content)] = true
		if len(content) < 1536 || len(content) > 3072 {
			t.Fatalf("seed %d: %d bytes are left", seed, len(content))
		}
		seen := ""
		for block := 0; block*512 < len(content); block++ {
			part := content[block*512 : min(block*512+512, len(content))]
			kind := string(part[0])
			if part[0] == 0 {
				kind = "0"
			}
			whole := strings.TrimRight(string(part), string(part[0]))
			if whole != "" && !(block == 3 && part[0] == '2') {
				t.Fatalf("seed %d: block %d is torn: %q", seed, block, part)
			}
			blocks[strings.Repeat("-", block)+kind] = true
			seen += kind
		}
		if seen[0] != 's' {
			t.Fatalf("seed %d: a block that was not written is lost: %s", seed, seen)
		}
	}
	for _, want := range []string{"s", "-s", "-1", "--s", "--1", "--2", "---s", "---2", "---0", "----0", "----3", "-----3"} {
		if !blocks[want] {
			t.Errorf("never seen: %s", want)
		}
		delete(blocks, want)
	}
	delete(blocks, "-----0")
	if len(blocks) > 0 || len(sizes) < 5 {
		t.Errorf("seen: %v, of %d sizes", blocks, len(sizes))
	}
}

// TestLossyCut: what was written and cut off again may be there as long as neither is durable.
func TestLossyCut(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(100) {
		w := newWorld(t)
		w.file("a", "durable ", "")
		w.sync(".")
		w.rewrite("a", func(f vfs.File) error {
			_, err := f.WriteAt(bytes.Repeat([]byte("x"), 2000), 8)
			return errors.Join(err, f.Truncate(8))
		})
		w.must(w.l.Crash(rand.New(rand.NewPCG(seed, 3))))
		content, err := os.ReadFile(w.path("a"))
		w.must(err)
		if !bytes.HasPrefix(content, []byte("durable ")) {
			t.Fatalf("seed %d: durable bytes are gone: %q", seed, content)
		}
		switch tail := bytes.Trim(content[8:], "\x00"); {
		case len(content) == 8:
			seen["cut"] = true
		case len(tail) == 0:
			seen["zeros"] = true
		default:
			seen["written"] = true
		}
	}
	for _, want := range []string{"cut", "zeros", "written"} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
}

// TestLossyRepeats: a crash with the same randomness leaves the same.
func TestLossyRepeats(t *testing.T) {
	crash := func() string {
		w := newWorld(t)
		w.file("a", strings.Repeat("s", 5000), strings.Repeat("u", 9000))
		w.sync(".")
		w.rewrite("a", func(f vfs.File) error {
			_, err := f.WriteAt(bytes.Repeat([]byte("x"), 4000), 1000)
			return err
		})
		w.must(w.l.Crash(rand.New(rand.NewPCG(1, 4))))
		content, err := os.ReadFile(w.path("a"))
		w.must(err)
		return string(content)
	}
	first := crash()
	for range 5 {
		if crash() != first {
			t.Fatal("two crashes differ")
		}
	}
}

func TestLossyAfterCrash(t *testing.T) {
	w := newWorld(t)
	file, err := w.l.Create(w.path("a"))
	w.must(err)
	w.must(w.l.Crash(nil))
	_, writeErr := file.Write([]byte("x"))
	_, writeAtErr := file.WriteAt([]byte("x"), 0)
	_, openWriteErr := w.l.OpenWrite(w.path("a"))
	_, createErr := w.l.Create(w.path("b"))
	_, openErr := w.l.Open(w.path("b"))
	_, readErr := w.l.ReadDir(w.dir)
	_, statErr := w.l.Stat(w.dir)
	_, _, spaceErr := w.l.Space(w.dir)
	for name, err := range map[string]error{
		"write": writeErr, "write at": writeAtErr, "open for writing": openWriteErr, "truncate": file.Truncate(0),
		"allocate": file.(vfs.Allocator).Allocate(0, 1), "sync": file.Sync(), "create": createErr, "open": openErr, "readdir": readErr, "stat": statErr, "space": spaceErr,
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
	if err := w.l.Rename(w.path("d"), filepath.Join(t.TempDir(), "d")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("directory out of the tree: got %v, want unsupported", err)
	}
}

var _ vfs.FS = (*vfstest.Lossy)(nil)
