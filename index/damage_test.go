package index_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
)

// TestDamagedPages overwrites each page of a file in turn. Whatever it held, the process
// must live on: each call gives an answer or an error, and Close returns.
func TestDamagedPages(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "index.db")
	makeFull(t, path)
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 { // so that every bucket has pages of its own
		id := fmt.Sprintf("%03d", i)
		apply(t, x, put(id+"/item", 1), index.AcquireLock{ID: id, Now: clock}, index.PutJob{Job: index.Job{ID: id, Record: make([]byte, 50)}},
			index.SetMeta{Name: id, Value: make([]byte, 50)}, put(id+"/gone", 1), index.Delete{Key: id + "/gone", TrashUntil: clock})
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	size := db.Info().PageSize
	err = db.View(func(tx *bolt.Tx) error {
		good = good[:tx.Size()] // the file has room for more pages
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	damages := map[string]func(page []byte, n int){
		"zeros":   func(page []byte, n int) { clear(page) },
		"ones":    func(page []byte, n int) { fillWith(page, 0xff) },
		"another": func(page []byte, n int) { copy(page, good[(n*7+3)%(len(good)/size)*size:]) },
		"content": func(page []byte, n int) { fillWith(page[16:], 0xa5) }, // the page's header stays
		"counts":  func(page []byte, n int) { page[10], page[11] = 0xff, 0x7f },
	}
	for name, damage := range damages {
		for n := range len(good) / size {
			bad := append([]byte(nil), good...)
			damage(bad[n*size:(n+1)*size], n)
			path := filepath.Join(dir, fmt.Sprintf("%s-%d", name, n))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				useDamaged(t, path)
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s in page %d: hangs", name, n)
			}
			if t.Failed() {
				t.Fatalf("%s in page %d", name, n)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func fillWith(b []byte, value byte) {
	for i := range b {
		b[i] = value
	}
}

// useDamaged calls everything; its results may be any, but a panic is not among them.
func useDamaged(t *testing.T, path string) {
	defer func() {
		if v := recover(); v != nil {
			t.Errorf("panic: %v", v)
		}
	}()
	x, err := index.Open(path, index.Options{})
	if err != nil {
		if !errors.Is(err, index.ErrCorrupt) {
			t.Errorf("open: got %v, want ErrCorrupt", err)
		}
		return
	}
	_, _ = x.Check(background)
	_, _ = x.Get("packs/003")
	_ = x.List(background, index.ListOptions{Recursive: true}, func(index.Entry) error { return nil })
	_ = x.Trash(time.Time{}, func(index.Removed) error { return nil })
	_, _ = x.Locks()
	for i := range 10 {
		if _, err := x.Apply(background, put(fmt.Sprintf("packs/%03d/new", i*10), 1), index.MakeDir{Key: fmt.Sprint("d", i)}); err != nil {
			break
		}
	}
	_ = x.Close()
}
