package index

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
)

// The versions of the whole file: which buckets there are, how their keys are made, and which records may be in them.
const (
	formatV1 = 1 // the first
	formatV2 = 2 // adds open plans and what is kept after compactions; item 2, counters 2, refs to kept rows
	formatV3 = 3 // adds the log in front of the file; sequences are rows
	formatV4 = 4 // adds the charges, among the counters
	format   = formatV4
)

// formatRow cannot be the name of a meta value: those never begin with 0x00.
var formatRow = []byte("\x00format")

// Create creates an index at path, durably: when it returns nil, the file and its directory entry are on stable storage. An existing
// file is ErrExists and is not changed. meta are the first values (see SetMeta).
//
// The file is built under a temporary name in the same directory and linked when it is complete, because bbolt writes its first
// pages in place. After a crash a file <name>.new-* may remain; the caller removes it.
func Create(path string, meta map[string][]byte) error { return CreateWith(path, meta, Options{}) }

// CreateWith is Create with FS and Database of the options.
func CreateWith(path string, meta map[string][]byte, o Options) (err error) {
	for name, value := range meta {
		if err := validateMeta(name, value); err != nil {
			return err
		}
	}
	fsys := o.fsys()
	if _, err := fsys.Stat(path); err == nil {
		return ErrExists
	}
	defer func() { err = withoutPath(err, filepath.Dir(path)) }()

	temporary := path + ".new-" + rand.Text()
	db, file, err := newFile(temporary, bolt.Options{FreelistType: bolt.FreelistMapType}, o)
	if err == nil {
		err = errors.Join(fill(db, meta), db.Close(), file.Sync(), file.Close())
	}
	if err == nil {
		err = fsys.Link(temporary, path)
	}
	if err != nil {
		err = errors.Join(err, removeIfThere(fsys, temporary))
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return ErrExists
	case err != nil:
		return fmt.Errorf("create index: %w", err)
	}
	if err := fsys.Remove(temporary); err != nil {
		return fmt.Errorf("create index: %w", err)
	}
	return syncDir(fsys, filepath.Dir(path))
}

// newFile makes the file path for a database with the options of b. Its bytes and its size are durable when file, which was open before
// bbolt wrote any, was synced.
func newFile(path string, b bolt.Options, o Options) (db *bolt.DB, file vfs.File, err error) {
	if file, err = o.fsys().Create(path); err != nil {
		return nil, nil, err
	}
	b.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }
	if db, err = bolt.Open(path, 0o600, &b); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	if o.Database != nil {
		if err := o.Database(db); err != nil {
			return nil, nil, errors.Join(err, db.Close(), file.Close())
		}
	}
	return db, file, nil
}

// fill makes an empty database an empty index.
func fill(db *bolt.DB, meta map[string][]byte) error {
	return db.Update(func(tx *bolt.Tx) error {
		for id := bucketMeta; id < bucketsOf(format); id++ {
			if _, err := tx.CreateBucket([]byte(id.String())); err != nil {
				return err
			}
		}
		counters := tx.Bucket([]byte(bucketCounters.String()))
		if err := firstError(counters.Put(totalRow, encodeCounters(Counters{})), counters.Put(chargesRow, encodeCharges(0))); err != nil {
			return err
		}
		b := tx.Bucket([]byte(bucketMeta.String()))
		for name, value := range meta {
			if value == nil {
				continue
			}
			if err := b.Put([]byte(name), encodeOpaque(metaV1, value)); err != nil {
				return err
			}
		}
		return b.Put(formatRow, binary.LittleEndian.AppendUint32(nil, format))
	})
}

func syncDir(fsys vfs.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// withoutPath takes the place on the server's disk out of an error's text; what
// it wraps stays. bbolt puts paths into texts, so unwrapping alone would not do.
func withoutPath(err error, dir string) error {
	if err == nil || dir == "." || !strings.Contains(err.Error(), dir) {
		return err
	}
	text := err.Error()
	if dir != "/" {
		text = strings.ReplaceAll(text, dir+"/", "")
	}
	return &cleaned{strings.ReplaceAll(text, dir, "directory"), err}
}

type cleaned struct {
	text string
	err  error
}

func (e *cleaned) Error() string { return e.text }
func (e *cleaned) Unwrap() error { return e.err }
