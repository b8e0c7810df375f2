package adopt_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
)

// interrupted is an adoption that was interrupted when everything was taken in, and only the index is missing.
func interrupted(t *testing.T, method string) (source, data string, items tree) {
	t.Helper()
	source, data = sides(t)
	items = smallTree()
	items.write(t, source)
	fsys := vfstest.NewFailing(taking(vfs.OS(), source, method))
	fsys.FailOp(vfstest.Rename, 3, vfstest.Before, syscall.EIO) // the mark, the list, the index
	if _, err := adopt.Run(ctx, failing(t, source, data, fsys)); err == nil {
		t.Fatal("adopt: no error")
	}
	return source, data, items
}

// wantGone wants nothing to be left of an adoption, and its name to be free.
func wantGone(t *testing.T, data string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(data, "r")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of the repository: %v", err)
	}
	s := datadir.Open(datadir.Options{Dir: data})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Create(ctx, "r", "vger"); err != nil {
		t.Errorf("create: %v", err)
	}
}

// TestAbandon: an adoption that is given up leaves nothing, and the source as it was; also one that had copied, and one that a stop cut short before it had a list.
func TestAbandon(t *testing.T) {
	for _, method := range []string{"link", "copy"} {
		source, data, items := interrupted(t, method)
		before := inodes(t, source)
		done, err := adopt.Abandon(ctx, options("", data), nil)
		if err != nil || done.Source != source || done.Files < int64(len(items)) {
			t.Errorf("%s: got %+v, %v", method, done, err)
		}
		wantSame(t, "the source", inodes(t, source), before)
		if st := stat(t, filepath.Join(source, "config", "id")); st.Nlink != 1 {
			t.Errorf("%s: config/id has %d names", method, st.Nlink)
		}
		wantGone(t, data)
		if _, err := adopt.Abandon(ctx, options("", data), nil); !errors.Is(err, adopt.ErrNotAdopting) {
			t.Errorf("%s: again: got %v", method, err)
		}
	}
	source, data := sides(t)
	if err := adopt.Mark(vfs.OS(), filepath.Join(data, "r"), source); err != nil {
		t.Fatal(err)
	}
	if done, err := adopt.Abandon(ctx, options("", data), nil); err != nil || done.Source != source || done.Files != 0 {
		t.Errorf("without a list: got %+v, %v", done, err)
	}
	wantGone(t, data)
}

// TestAbandonOfComplete: a repository that is complete is not touched, whoever moved its files from the source.
func TestAbandonOfComplete(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	mustAdopt(t, options(source, data))
	if _, err := adopt.Finish(ctx, options(source, data)); err != nil {
		t.Fatal(err)
	}
	before := inodes(t, data)
	if _, err := adopt.Abandon(ctx, options("", data), nil); !errors.Is(err, adopt.ErrNotAdopting) {
		t.Errorf("got %v, want ErrNotAdopting", err)
	}
	s := datadir.Open(datadir.Options{Dir: data})
	if err := errors.Join(s.EndAdoption("r"), s.Close()); !errors.Is(err, repo.ErrExists) {
		t.Errorf("end: got %v, want ErrExists", err)
	}
	wantSame(t, "the data directory", inodes(t, data), before)
}

// TestAbandonKeepsOnlyNames: what the source has no more is not removed, unless that is asked for; a name elsewhere will do.
func TestAbandonKeepsOnlyNames(t *testing.T) {
	for _, method := range []string{"link", "copy"} {
		for _, c := range []struct {
			name   string
			change func(source string) error
			lost   int64
		}{
			{"removed", func(source string) error { return os.Remove(filepath.Join(source, "config", "id")) }, 1},
			{"all removed", os.RemoveAll, 10},
			{"replaced", func(source string) error {
				id := filepath.Join(source, "config", "id")
				return errors.Join(os.WriteFile(id+".tmp", []byte("another"), 0o600), os.Rename(id+".tmp", id))
			}, 1},
			{"moved", func(source string) error { return os.Rename(source, source+".away") }, map[string]int64{"copy": 10}[method]},
		} {
			t.Run(method+"/"+c.name, func(t *testing.T) {
				source, data, _ := interrupted(t, method)
				if err := c.change(source); err != nil {
					t.Fatal(err)
				}
				before := inodes(t, data)
				_, err := adopt.Abandon(ctx, options("", data), nil)
				lost, refused := errors.AsType[*adopt.OnlyNameError](err)
				switch {
				case c.lost == 0 && err != nil:
					t.Errorf("got %v", err)
				case c.lost > 0 && (!refused || lost.Files != c.lost || !strings.Contains(err.Error(), source)):
					t.Errorf("got %v, want %d files", err, c.lost)
				}
				if c.lost == 0 {
					wantGone(t, data)
					return
				}
				wantSame(t, "the data directory", inodes(t, data), before)
				o := options("", data)
				o.Force = true
				if _, err := adopt.Abandon(ctx, o, nil); err != nil {
					t.Errorf("by force: %v", err)
				}
				wantGone(t, data)
			})
		}
	}
}

// TestAbandonOfDamagedList: what cannot be told is refused, unless it is forced.
func TestAbandonOfDamagedList(t *testing.T) {
	_, data, _ := interrupted(t, "link")
	list := filepath.Join(data, "r", "adopted", "list")
	if err := os.Truncate(list, 20); err != nil {
		t.Fatal(err)
	}
	o := options("", data)
	if _, err := adopt.Abandon(ctx, o, nil); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got %v", err)
	}
	o.Force = true
	if _, err := adopt.Abandon(ctx, o, nil); err != nil {
		t.Errorf("by force: %v", err)
	}
	wantGone(t, data)
}

// TestAbandonWhileAdopting: the process that adopts keeps what it makes.
func TestAbandonWhileAdopting(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	o := options(source, data)
	asked := false
	o.Progress = func(p adopt.Progress) {
		if p.Step == "linking" && !asked {
			asked = true
			if _, err := adopt.Abandon(ctx, options("", data), nil); err == nil || !strings.Contains(err.Error(), "another process is adopting it") {
				t.Errorf("got %v", err)
			}
		}
	}
	mustAdopt(t, o)
	if !asked {
		t.Error("nobody asked")
	}
	_, a := open(t, data)
	wantItems(t, a, source, items)
}

// TestAbandonIsInterrupted: wherever it is interrupted, and whatever of what was not synced is lost, the name is not free with something behind it, the
// source is unchanged, and it can be repeated; or the adoption be completed.
func TestAbandonIsInterrupted(t *testing.T) {
	_, data, _ := interrupted(t, "link")
	counting := vfstest.NewFailing(vfs.OS())
	o := options("", data)
	o.FS = counting
	if _, err := adopt.Abandon(ctx, o, nil); err != nil {
		t.Fatal(err)
	}
	shards := 0
	for n, call := range counting.Calls() {
		if call.Op == vfstest.SyncDir && strings.Contains(call.Name, "/blobs/") {
			if shards++; shards > 2 && shards < 256 {
				continue // one shard is like the other
			}
		}
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%d/%d", n+1, seed), func(t *testing.T) { abandonFails(t, n+1, seed) })
		}
	}
}

func abandonFails(t *testing.T, n int, seed uint64) {
	source, data, items := interrupted(t, "link")
	before := inodes(t, source)
	lossy := vfstest.NewLossy(t, data)
	fsys := vfstest.NewFailing(lossy)
	fsys.StopAt(n, vfstest.Before, syscall.EIO)
	o := options("", data)
	o.FS = fsys
	_, err := adopt.Abandon(ctx, o, nil)
	var random *rand.Rand // nil forgets everything
	if seed > 0 {
		random = rand.New(rand.NewPCG(seed, uint64(n)))
	}
	if crash := lossy.Crash(random); crash != nil {
		t.Fatal(crash)
	}
	wantSame(t, "the source", inodes(t, source), before)
	wantKept(t, source, data)
	before = inodes(t, source) // the time of a directory has changed
	switch found := datadir.Inspect(filepath.Join(data, "r")); {
	case errors.Is(found, datadir.ErrAdopting) && err == nil:
		t.Error("it was given up, and is not")
	case errors.Is(found, datadir.ErrAdopting) && (n+int(seed))%2 > 0:
		if _, err := adopt.Abandon(ctx, options("", data), nil); err != nil {
			t.Errorf("again: %v", err)
		}
	case errors.Is(found, datadir.ErrAdopting):
		mustAdopt(t, options(source, data))
		wantBlobs(t, data, len(items))
		_, a := open(t, data)
		wantItems(t, a, source, items)
		return
	case !errors.Is(found, repo.ErrNoRepository):
		t.Fatalf("inspect: %v", found)
	}
	if left := blobs(t, data); left > 0 {
		t.Errorf("%d blobs are left", left)
	}
	s := datadir.Open(datadir.Options{Dir: data})
	if _, err := s.Create(ctx, "r", "vger"); err != nil {
		t.Errorf("create: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wantSame(t, "the source", inodes(t, source), before)
}

// wantKept wants another try to refuse to remove a blob that it finds to be the only name of its file.
func wantKept(t *testing.T, source, data string) {
	t.Helper()
	id := filepath.Join(source, "config", "id")
	files, err := filepath.Glob(filepath.Join(data, "r", "blobs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if stat(t, file).Ino != stat(t, id).Ino {
			continue
		}
		if err := os.Remove(id); err != nil {
			t.Fatal(err)
		}
		if _, err := adopt.Abandon(ctx, options("", data), nil); err == nil {
			t.Fatal("the only name of a file was removed")
		}
		if err := os.Link(file, id); err != nil {
			t.Fatal(err)
		}
		return
	}
}
