package adopt_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
	"packhouse/repo/adopt"
	"packhouse/repo/layout"
)

// halvesFS makes the sync of the first shard wait until the index, which is made meanwhile, is complete but for its name.
type halvesFS struct {
	vfs.FS
	synced   atomic.Int32 // shards
	early    atomic.Int32 // shards that were not synced when the index got its name
	linked   atomic.Int32
	database atomic.Pointer[bolt.DB] // of the index, once it is open to be filled
}

func (h *halvesFS) OpenTree(name string) (vfs.Tree, error) { return vfs.OpenTree(h.FS, name) }

// complete tells whether the index was filled and closed.
func (h *halvesFS) complete() bool {
	db := h.database.Load()
	if db == nil {
		return false
	}
	tx, err := db.Begin(false)
	if err == nil {
		err = tx.Rollback()
	}
	return err != nil
}

func (h *halvesFS) SyncDir(name string) error {
	if strings.HasSuffix(filepath.Dir(name), "/blobs") && h.linked.Load() > 0 {
		for !h.complete() {
			runtime.Gosched()
		}
		for range 1000 {
			runtime.Gosched() // to who would give the index its name
		}
		defer h.synced.Add(1)
	}
	return h.FS.SyncDir(name)
}

func (h *halvesFS) Rename(from, to string) error {
	switch filepath.Base(to) {
	case "list":
		h.linked.Store(1) // from now on shards are synced because of links
	case layout.IndexFile:
		h.early.Store(256 - h.synced.Load())
	}
	return h.FS.Rename(from, to)
}

// TestIndexWaitsForFiles: the index is made while files are taken in, and gets its name, which makes a repository of it all, when all of them are there,
// durably.
func TestIndexWaitsForFiles(t *testing.T) {
	source, data := sides(t)
	items := smallTree()
	items.write(t, source)
	o := options(source, data)
	h := &halvesFS{FS: vfs.OS()}
	h.early.Store(-1)
	o.FS = h
	o.Index.Database = func(db *bolt.DB) error {
		h.database.Store(db)
		return nil
	}
	if _, err := adopt.Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	if n := h.early.Load(); n != 0 {
		t.Errorf("the index got its name when %d of 256 directories were not synced", n)
	}
	_, a := open(t, data)
	wantItems(t, a, source, items)
}
