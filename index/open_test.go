package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
)

func TestCreateDoesNotOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := index.Create(path, nil); !errors.Is(err, index.ErrExists) {
		t.Errorf("got %v, want %v", err, index.ErrExists)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("file: got %q, %v", got, err)
	}
	noLeftovers(t, path)
}

func TestCreateRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	var all sync.WaitGroup
	outcomes := make([]error, 8)
	for i := range outcomes {
		all.Go(func() { outcomes[i] = index.Create(path, nil) })
	}
	all.Wait()
	made := 0
	for _, err := range outcomes {
		if err == nil {
			made++
		} else if !errors.Is(err, index.ErrExists) {
			t.Errorf("got %v, want %v", err, index.ErrExists)
		}
	}
	equal(t, "created", made, 1)
	noLeftovers(t, path)
	open(t, path, index.Options{})
}

func noLeftovers(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	err := index.Create(filepath.Join(dir, "none", "index.db"), nil)
	if !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), dir) {
		t.Errorf("no directory: got %v, want not exist without its path", err)
	}
	if err := index.Create(filepath.Join(dir, "index.db"), map[string][]byte{"": nil}); !errors.Is(err, index.ErrInvalid) {
		t.Errorf("meta without name: got %v, want %v", err, index.ErrInvalid)
	}
	noLeftovers(t, filepath.Join(dir, "index.db"))
}

func TestOpenRefuses(t *testing.T) {
	write := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	// change makes a full index and then changes it with plain bbolt.
	change := func(fn func(*bolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			makeFull(t, path)
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(fn), db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name string
		make func(*testing.T, string)
		want error
	}{
		{"missing", func(*testing.T, string) {}, index.ErrNotFound},
		{"empty", write(nil), index.ErrCorrupt},
		{"text", write([]byte(strings.Repeat("not a database\n", 1000))), index.ErrCorrupt},
		{"short text", write([]byte("x")), index.ErrCorrupt},
		{"zeros", write(make([]byte, 1<<16)), index.ErrCorrupt},
		{"cut short", func(t *testing.T, path string) {
			makeFull(t, path)
			if err := os.Truncate(path, 5*4096); err != nil {
				t.Fatal(err)
			}
		}, index.ErrCorrupt},
		{"foreign database", change(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("meta")) }), index.ErrCorrupt},
		{"no format", change(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Delete([]byte("\x00format")) }), index.ErrCorrupt},
		{"newer format", change(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("\x00format"), []byte{5, 0, 0, 0})
		}), index.ErrBadVersion},
		{"missing bucket of format 2", change(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("plans")) }), index.ErrCorrupt},
		{"missing bucket", change(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("refs")) }), index.ErrCorrupt},
		{"damaged counters", change(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("counters")).Put([]byte{0}, []byte{1, 2, 3})
		}), index.ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			_, err := index.Open(path, index.Options{})
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if strings.Contains(err.Error(), filepath.Dir(path)) {
				t.Errorf("the error %q names the place on disk", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
				t.Error("the file was changed")
			}
		})
	}
}

// makeFull makes an index of more pages than an empty one has.
func makeFull(t *testing.T, path string) {
	t.Helper()
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		apply(t, x, put(fmt.Sprintf("packs/%03d/%s", i, strings.Repeat("x", 40)), 1))
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := index.Open(path, index.Options{}); !errors.Is(err, index.ErrLocked) {
		t.Errorf("second open: got %v, want %v", err, index.ErrLocked)
	}
	apply(t, x, put("a", 1))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, index.Options{})
}

// The file as a crash leaves it and the file after a clean close hold the same; so does a snapshot taken while others write.
func TestReopenAndSnapshot(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		key := fmt.Sprintf("%d/%s", i%7, strings.Repeat("x", i%50)+fmt.Sprint(i))
		apply(t, x, put(key, 1), index.AcquireLock{ID: key, Now: clock})
		if i%3 == 0 {
			apply(t, x, index.Delete{Key: key, TrashUntil: clock})
		}
	}
	want := everything(t, x)
	var snapshot bytes.Buffer
	n, err := x.WriteTo(&snapshot)
	if err != nil || n != int64(snapshot.Len()) {
		t.Fatalf("snapshot: %d bytes, %v, wrote %d", n, err, snapshot.Len())
	}
	crashed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	closed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"snapshot": snapshot.Bytes(), "crashed": crashed, "closed": closed} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			layIndex(t, path, content, filepath.Join(dir, "log"))
			for range 2 {
				x, err := index.Open(path, index.Options{})
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "content", everything(t, x), want)
				apply(t, x, put("new", 1)) // takes pages from the list of free ones
				removed := apply(t, x, index.Delete{Key: "new", TrashUntil: clock})[0].TrashID
				apply(t, x, index.PurgeTrash{IDs: []string{removed}})
				checkWhole(t, x)
				if err := x.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
