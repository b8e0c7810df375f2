package vfstest

import (
	"os"
	"reflect"
	"testing"
	"unsafe"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
)

// Bolt returns a function that lets a database write through fsys from then on: each of its writes and syncs can fail, and what
// it has not synced is lost by a crash.
//
// The database itself accepts nothing but an *os.File; the function it writes with is replaced. It syncs before and after it writes a
// meta page, and where the file grows: its own syncs are switched off, or have been done, and are made through fsys in the same
// places. TestOrderOfCheckpoint watches that order.
func Bolt(t testing.TB, fsys vfs.FS) func(*bolt.DB) error {
	return func(db *bolt.DB) error {
		file, err := fsys.OpenWrite(db.Path())
		if err != nil {
			return err
		}
		t.Cleanup(func() {
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		})
		b := &boltFile{File: file, syncs: !db.NoSync}
		if b.metas, b.size, err = beginnings(db); err != nil {
			return err
		}
		db.NoSync = true
		*writerOf(db) = b.WriteAt
		return b.grow()
	}
}

// beginnings are how many bytes the meta pages of a database take, and how many its file has. It has none, as far as that file system
// knows, of which nothing but the first pages was written.
func beginnings(db *bolt.DB) (metas, size int64, err error) {
	metas = 2 * int64(db.Info().PageSize)
	err = db.View(func(tx *bolt.Tx) error {
		const first = 1
		if tx.ID() > first {
			size, err = sizeOf(db.Path())
		}
		return err
	})
	return metas, size, err
}

func sizeOf(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// writerOf is the function with which a database writes.
func writerOf(db *bolt.DB) *func(p []byte, off int64) (int, error) {
	field := reflect.ValueOf(db).Elem().FieldByName("ops").FieldByName("writeAt")
	return (*func(p []byte, off int64) (int, error))(unsafe.Pointer(field.UnsafeAddr()))
}

// boltFile is the file of a database.
type boltFile struct {
	vfs.File
	metas int64 // bytes of the meta pages
	size  int64 // bytes of the file, as far as the file system knows
	syncs bool  // the database is one that syncs
}

func (b *boltFile) WriteAt(p []byte, off int64) (int, error) {
	if err := b.grow(); err != nil {
		return 0, err
	}
	meta := b.syncs && off < b.metas
	if meta {
		if err := b.Sync(); err != nil {
			return 0, err
		}
	}
	n, err := b.File.WriteAt(p, off)
	b.size = max(b.size, off+int64(n))
	if err == nil && meta {
		err = b.Sync()
	}
	return n, err
}

// grow repeats through the file system what the database has done without it: it made the file larger, and synced it.
func (b *boltFile) grow() error {
	info, err := b.Stat()
	if err != nil || info.Size() == b.size {
		return err
	}
	if err := b.Truncate(info.Size()); err != nil {
		return err
	}
	if err := b.Sync(); err != nil {
		return err
	}
	b.size = info.Size()
	return nil
}
