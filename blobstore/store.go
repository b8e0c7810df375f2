package blobstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/blobstore/vfs"
)

// Info describes a blob, as found, as written or as it should be.
type Info struct {
	Size   int64    // of the payload; negative: not known
	BLAKE3 [32]byte // zero: not known
}

// Hashed tells whether the BLAKE3 is known.
func (i Info) Hashed() bool { return i.BLAKE3 != [32]byte{} }

// Options of Open. Dir is required.
type Options struct {
	Dir  string
	FS   vfs.FS           // nil means the operating system's
	Rand io.Reader        // for blob IDs; nil means crypto/rand
	Now  func() time.Time // nil means time.Now
	Log  Log              // where small blobs may lie; nil: all lie in files
	// Small is the most bytes of a new blob that is to lie in the log, which then must be there; 0: each lies in a file. What
	// lies in the log already is read from there whatever Small is.
	Small int64
	// Unchecked leaves out the checks of what is read from files, except by Verify: for file systems that check themselves.
	Unchecked bool
}

// Log is where small blobs lie. Whoever commits the record that refers to one stores it there, see Writer.Small.
type Log interface {
	// Payload returns the bytes of a blob: ErrNotFound, or ErrCorrupt, of this package, when they are not what was stored. unchecked: as
	// they lie. They are in buffer if that has the capacity that journal.BufferSize says.
	Payload(ref string, unchecked bool, buffer []byte) ([]byte, error)
	// Has tells whether what the blob lies in is there, as far as the last Look and who read it have noticed; it reads nothing of it.
	Has(ref string) (bool, error)
	// Look reads the names of what blobs lie in.
	Look() error
}

// Store is an open blob store: Dir/incoming and Dir/blobs/00…ff. Its methods
// are safe for concurrent use. No two Stores may be open on one directory.
type Store struct {
	fs  vfs.FS
	dir string
	now func() time.Time

	randMu    sync.Mutex
	rand      io.Reader // guarded by randMu
	log       Log       // nil: all blobs lie in files
	small     int64     // most bytes of a new blob in the log; 0: none
	unchecked bool

	incoming *groupSync
	shards   [256]*groupSync
	removing [256]sync.Mutex // of each shard: held while a blob and its checksums lose their names, or the checksums get one
	hashers  sync.Pool       // of *blake3.Hasher, reset
	windows  sync.Pool       // of *[]byte, windowSize long
	blocks   sync.Pool       // of *[]byte, blockSize long

	failed  atomic.Pointer[error] // the first error after which nothing may change; sticky
	created atomic.Bool           // Create was called: Sweep may not any more
	closed  atomic.Bool
}

// Init creates the directories of a store below dir, durably. dir must exist; the caller syncs its own entry. Existing directories
// are no error, so that an Init that failed can be repeated.
func Init(fsys vfs.FS, dir string) error {
	if fsys == nil {
		fsys = vfs.OS()
	}
	made := []string{incomingDir(dir), blobsDir(dir)}
	s := &Store{dir: dir}
	for shard := range 256 {
		made = append(made, s.shardDir(byte(shard)))
	}
	for _, name := range made {
		if err := fsys.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return wrap("make the directories of a blob store", err)
		}
	}
	for _, name := range []string{blobsDir(dir), dir} {
		if err := fsys.SyncDir(name); err != nil {
			return wrap("sync the directories of a blob store", err)
		}
	}
	return nil
}

// Open opens a store that Init created. Its cost does not depend on the number of blobs. A directory that is missing or cannot be
// read is a *DirError, except the missing directory of a shard: see MissingShards.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open blob store: no directory given")
	}
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Small < 0 || o.Small > 0 && o.Log == nil {
		return nil, fmt.Errorf("open blob store: blobs up to %d bytes in a log: there is none, or that is no size", o.Small)
	}
	s := &Store{fs: o.FS, dir: o.Dir, now: o.Now, rand: o.Rand, log: o.Log, small: o.Small, unchecked: o.Unchecked}
	s.hashers.New = func() any { return blake3.New() }
	s.windows.New = func() any { b := make([]byte, windowSize); return &b }
	s.blocks.New = func() any { b := make([]byte, blockSize); return &b }
	s.incoming = newGroupSync(func() error { return s.syncDir(incomingDir(s.dir)) })
	for i := range s.shards {
		dir := s.shardDir(byte(i))
		s.shards[i] = newGroupSync(func() error { return s.syncDir(dir) })
	}
	if err := s.checkDirs(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkDirs finds a missing directory now, rather than by the first blob that needs it. Those of shards are looked at
// by MissingShards.
func (s *Store) checkDirs() error {
	if _, err := s.fs.Stat(incomingDir(s.dir)); err != nil {
		return &DirError{IncomingDir, vfs.WithoutPath(err)}
	}
	if _, err := s.fs.ReadDir(blobsDir(s.dir)); err != nil {
		return &DirError{BlobsDir, vfs.WithoutPath(err)}
	}
	return nil
}

// Close closes the store: Create, Commit and Remove then return ErrClosed. Open blobs stay readable. A blob that is being written
// should be aborted; otherwise the next Sweep removes it.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// Failed returns the first sync or link error, or write error that is not about space, after which Create, Commit and Remove return
// ErrFailed; nil if there was none. It remains until the store is opened again. ErrNoSpace has no such effect, unless a
// sync reported it.
func (s *Store) Failed() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// ready refuses changes of a closed or failed store.
func (s *Store) ready() error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := s.Failed(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

// fail makes the store read-only because of err, and returns what to tell the caller.
func (s *Store) fail(op string, err error) error {
	if s.closed.Load() && errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("%w: %s", ErrClosed, op) // the directory was let go of; the disk is not to blame
	}
	cause := wrap(op, err)
	if vfs.NoSpace(err) {
		cause = fmt.Errorf("%w: %w", ErrNoSpace, cause)
	}
	s.failed.CompareAndSwap(nil, &cause)
	return fmt.Errorf("%w: %w", ErrFailed, cause)
}

// syncDir is what the groups run. After a failure it is not tried again: it might then
// succeed without having made anything durable. What could not begin for want of a
// descriptor has lost nothing: those who wait for it fail, the store does not.
func (s *Store) syncDir(dir string) error {
	if err := s.Failed(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	err := s.fs.SyncDir(dir)
	switch {
	case err == nil:
		return nil
	case vfs.NotBegun(err):
		return wrap("sync a directory of blobs", err)
	case errors.Is(err, fs.ErrNotExist): // somebody has removed it, with what was in it
		return &DirError{strings.TrimPrefix(dir, s.dir+"/"), vfs.WithoutPath(err)}
	}
	return s.fail("sync a directory of blobs", err)
}

// Inodes returns how many inodes are free in the file system below, and how many it has; total is 0 where it does not count them.
func (s *Store) Inodes() (free, total int64, err error) {
	if free, total, err = s.fs.Inodes(s.dir); err != nil {
		return 0, 0, wrap("ask for free inodes", err)
	}
	return free, total, nil
}

// Space returns free and total bytes of the file system below.
func (s *Store) Space() (free, total int64, err error) {
	free, total, err = s.fs.Space(s.dir)
	if err != nil {
		return 0, 0, wrap("ask for free space", err)
	}
	return free, total, nil
}
