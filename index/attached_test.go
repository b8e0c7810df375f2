package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/index"
)

// What is done to the file below an open index, and to its directory.
var displacements = []struct {
	name string
	do   func(path string) error
}{
	{"removed", os.Remove},
	{"moved", func(path string) error { return os.Rename(path, path+".away") }},
	{"replaced", func(path string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path+".copy", text, 0o600); err != nil {
			return err
		}
		return os.Rename(path+".copy", path)
	}},
	{"directory moved", func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".away") }},
	{"directory removed", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }},
}

// An acknowledgement means that the file which lies under the name has the change.
func TestDisplacedIndexAcknowledgesNothing(t *testing.T) {
	for _, c := range displacements {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "secret")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "index.db")
			if err := index.Create(path, nil); err != nil {
				t.Fatal(err)
			}
			x := open(t, path, index.Options{})
			apply(t, x, put("before", 1))
			if err := x.Attached(); err != nil {
				t.Fatalf("attached: %v", err)
			}
			if err := c.do(path); err != nil {
				t.Fatal(err)
			}
			if err := x.Attached(); !errors.Is(err, index.ErrMoved) || strings.Contains(err.Error(), "secret") {
				t.Errorf("attached: got %v, want ErrMoved without the directory", err)
			}
			for _, key := range []string{"first", "second"} {
				if _, err := x.Apply(background, put(key, 1)); !errors.Is(err, index.ErrMoved) || errors.As(err, new(*index.GroupError)) {
					t.Errorf("apply: got %v, want ErrMoved, and no refusal of the group", err)
				}
			}
			if err := x.Failed(); err != nil {
				t.Errorf("the disk is blamed: %v", err)
			}
			// Reading goes on, and waits for nothing.
			if _, err := x.Get("before"); err != nil {
				t.Errorf("get: %v", err)
			}
			if _, err := x.Get("second"); !errors.Is(err, index.ErrNotFound) {
				t.Errorf("get of what came after the loss was noticed: %v", err)
			}
		})
	}
}

// A file that is moved away between a commit's write and its acknowledgement is not acknowledged, also when it
// has the change: nobody can say whether the copy that took its place was made before.
func TestDisplacedBetweenCommitAndAcknowledgement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	away := false
	x := open(t, path, index.Options{AfterCommit: func() error {
		if away {
			return os.Rename(path, path+".away")
		}
		return nil
	}})
	apply(t, x, put("before", 1))
	away = true
	if _, err := x.Apply(background, put("during", 1)); !errors.Is(err, index.ErrMoved) {
		t.Fatalf("apply: got %v, want ErrMoved", err)
	}
	moved, err := index.Open(path+".away", index.Options{ReadOnly: true})
	if !errors.Is(err, index.ErrLocked) {
		t.Errorf("open of a file that is still open: got %v, %v; want ErrLocked", moved, err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path+".away", index.Options{}).Get("before"); err != nil {
		t.Errorf("what was acknowledged before: %v", err)
	}
}

// TestDisplacedIndexLeavesTheOther: the end of an index whose directory was replaced by another one, in which a repository went on, removes and cuts off
// nothing there.
func TestDisplacedIndexLeavesTheOther(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x := mustOpen(t, path, index.Options{SegmentSize: 64 << 10})
	segments := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "log", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".new") }) // that is being made
	}
	for i := 0; len(segments()) <= x.LogStatus().Segments; i++ { // until one is made ahead
		if i == 2000 {
			t.Fatalf("segments: %q, %+v; want one made ahead", segments(), x.LogStatus())
		}
		apply(t, x, put(fmt.Sprint("item/", i), 1))
	}
	copied := filepath.Join(filepath.Dir(dir), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int64) // the other may have records in each of them
	for _, segment := range segments() {
		name := filepath.Join(copied, "log", filepath.Base(segment))
		if err := os.Truncate(name, 64<<10); err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(segment)] = 64 << 10
	}
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Rename(copied, dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, x)
	for name, size := range want {
		if info, err := os.Stat(filepath.Join(dir, "log", name)); err != nil || info.Size() != size {
			t.Errorf("segment %s of the other: %v, %v; want %d bytes", name, info, err, size)
		}
	}
}

// A file is read as it is: of whatever format, without a change of a byte, and by several at once.
func TestReadOnly(t *testing.T) {
	for _, name := range []string{"format-1.db.gz", "format-2.db.gz"} {
		t.Run(name, func(t *testing.T) {
			content := unzip(t, filepath.Join("testdata", name))
			path := filepath.Join(t.TempDir(), "index.db")
			if err := os.WriteFile(path, content, 0o400); err != nil {
				t.Fatal(err)
			}
			past := time.Now().Add(-time.Hour).Truncate(time.Second)
			if err := os.Chtimes(path, past, past); err != nil {
				t.Fatal(err)
			}
			x, other := open(t, path, index.Options{ReadOnly: true}), open(t, path, index.Options{ReadOnly: true})
			if _, err := index.Open(path, index.Options{}); !errors.Is(err, index.ErrLocked) {
				t.Errorf("open for writing beside readers: got %v, want ErrLocked", err)
			}
			group := goldenGroup()
			if name == "format-2.db.gz" {
				group = append(group, goldenGroup2()...)
			}
			want := create(t)
			apply(t, want, group...)
			equal(t, "content", everything(t, x), everything(t, want))
			equal(t, "content for another", everything(t, other), everything(t, want))
			checkWhole(t, x)
			if _, _, err := x.NextKeptExpiry(); err != nil {
				t.Error(err)
			}
			if _, err := x.Kept("nothing"); !errors.Is(err, index.ErrNotFound) {
				t.Errorf("kept: got %v, want ErrNotFound", err)
			}
			if _, err := x.Apply(background, put("new", 1)); !errors.Is(err, index.ErrReadOnly) {
				t.Errorf("apply: got %v, want ErrReadOnly", err)
			}
			now, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file was changed (%v)", err)
			}
			if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(past) {
				t.Errorf("the file was written: %v, %v", info.ModTime(), err)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	x, err := index.NewMemory(map[string][]byte{"dialect": []byte("borgstore")})
	if err != nil {
		t.Fatal(err)
	}
	group := append(goldenGroup()[1:], goldenGroup2()...)
	apply(t, x, group...)
	want := create(t)
	apply(t, want, group...)
	equal(t, "content", everything(t, x), everything(t, want))
	if value, err := x.Meta("dialect"); err != nil || string(value) != "borgstore" {
		t.Errorf("meta: got %q, %v", value, err)
	}
	if err := x.Attached(); err != nil {
		t.Errorf("attached: %v", err)
	}
	checkWhole(t, x)
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkAttached is what the look at the file costs a commit.
func BenchmarkAttached(b *testing.B) {
	x := create(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Attached(); err != nil {
			b.Fatal(err)
		}
	}
}
