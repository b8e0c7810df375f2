package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// lockWait is how long Open waits for another holder of the file to let go:
	// a process that is just ending, not one that serves.
	lockWait = 500 * time.Millisecond

	// renewAfter is the age at which a walk changes to a newer snapshot, so that
	// a slow reader does not keep the pages of an old one from being used again.
	renewAfter = 2 * time.Second
)

// Index is one open index. Its methods are safe for concurrent use.
type Index struct {
	db         *bolt.DB
	dir        string // of the file; taken out of error texts
	place      place
	opts       Options
	renewAfter time.Duration

	// mu is held for reading while a group is being put into queue, and for
	// writing while Close closes queue.
	mu     sync.RWMutex
	closed bool
	queue  chan *group
	ended  chan struct{} // closed when the commit loop has returned

	failed     atomic.Pointer[error]     // first write error, sticky; set by the commit loop
	gone       atomic.Pointer[error]     // the file is not in its place any more, sticky; set by the commit loop
	durable    durable                   // what readers may see
	counters   atomic.Pointer[Counters]  // of the last commit; replaced, never modified
	lastBackup atomic.Pointer[time.Time] // of the last commit; nil: none yet

	closeOnce sync.Once
	closeErr  error
}

// Open opens the index at path, taking its file lock. A second open, by whatever
// process, is ErrLocked after a short wait. A missing file is ErrNotFound.
//
// The cost does not depend on the number of items, also after a crash: each commit
// writes the list of free pages (usually one page), which bbolt would else gather from all pages.
// Errors: also ErrBadVersion, ErrCorrupt (not an index, or cut short), else I/O.
func Open(path string, opts Options) (*Index, error) {
	x := newIndex(filepath.Dir(path), opts)
	open := x.open
	if opts.ReadOnly {
		open = x.openReadOnly
	}
	if err := open(path); err != nil {
		return nil, withoutPath(fmt.Errorf("open index: %w", err), x.dir)
	}
	go x.commitLoop()
	return x, nil
}

// newIndex is one that is not open yet.
func newIndex(dir string, opts Options) *Index {
	x := &Index{
		dir:        dir,
		opts:       opts,
		renewAfter: renewAfter,
		queue:      make(chan *group, maxGroups),
		ended:      make(chan struct{}),
	}
	x.durable.changed.L = &x.durable.mu
	return x
}

func (x *Index) open(path string) error {
	if err := probe(path); err != nil {
		return err
	}
	o := bolt.Options{
		Timeout:         lockWait,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize(),
		NoStatistics:    true,
	}
	db, opened, err := openFile(path, o)
	if errors.Is(err, syscall.ENOMEM) { // a limit on address space
		o.InitialMmapSize = 0
		db, opened, err = openFile(path, o)
	}
	if err != nil {
		return err
	}
	x.db, x.place = db, place{path, opened}
	// A process that was killed may have left a commit that only the page cache has, or the file's name.
	for _, step := range []func() error{db.Sync, func() error { return syncDir(x.dir) }, x.upgrade, x.load} {
		if err := step(); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return nil
}

// upgrade makes a file of an older format one of today's, in one transaction: after a crash it is of the one or of
// the other. What an older format has stays as it is; its items are read once, for their marks.
func (x *Index) upgrade() (err error) {
	defer faultIsCorrupt(&err)()
	var today bool
	err = x.db.View(func(tx *bolt.Tx) error {
		today = binary.LittleEndian.Uint32(tx.Bucket(bucketMeta).Get(formatRow)) == format
		return nil
	})
	if err != nil || today {
		return err
	}
	err = x.db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets2 {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := countMarks(tx); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(formatRow, binary.LittleEndian.AppendUint32(nil, format))
	})
	if err != nil {
		return fmt.Errorf("upgrade to format %d: %w", format, err)
	}
	return nil
}

// load reads what is kept in memory of the last commit.
func (x *Index) load() (err error) {
	defer faultIsCorrupt(&err)()
	return x.db.View(func(tx *bolt.Tx) error {
		x.durable.reached(tx.ID())
		counters, err := decodeCounters(tx.Bucket(bucketCounters).Get(totalRow))
		if err != nil {
			return err
		}
		x.counters.Store(&counters)
		x.lastBackup.Store(readLastBackup(tx.Bucket(bucketWriters)))
		return nil
	})
}

// mapSize is how much address space an open index takes: when the file grows
// beyond it, bbolt maps it anew, and for that the writer waits for all readers
// and new readers for the writer. 16 GiB is some 40 million items; it costs no
// memory, and a process has room for 8,000 such. 32-bit systems get bbolt's default.
func mapSize() int {
	size := 1
	return size << 34 // 0 where an int has 32 bits
}

// openFile opens an existing file with bbolt, which by itself would make one, and
// fill an empty one. It says which file it is.
func openFile(path string, o bolt.Options) (db *bolt.DB, opened os.FileInfo, err error) {
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		file, err := os.OpenFile(name, flag&^os.O_CREATE, mode)
		if err != nil {
			return nil, err
		}
		info, err := file.Stat()
		if err == nil && info.Size() == 0 {
			err = fmt.Errorf("%w: the file is empty", ErrCorrupt)
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		opened = info
		return file, nil
	}
	db, err = bolt.Open(path, 0o600, &o)
	switch {
	case err == nil:
		// While we waited for the lock its holder may have taken the file away: then the
		// name is nobody's, or another index's.
		if (place{path, opened}).check() != nil {
			return nil, nil, errors.Join(fmt.Errorf("%w: the index was removed meanwhile", ErrNotFound), db.Close())
		}
		return db, opened, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("%w: no index file", ErrNotFound)
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, fmt.Errorf("%w: the index is open elsewhere, perhaps by another process", ErrLocked)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("%w: not a database file: %w", ErrCorrupt, err)
	}
	return nil, nil, err
}

// probe looks at the file without changing it: whether it is an index, of a
// format we know, as long as its first pages say, and with a list of free pages that
// can be right. What bbolt does not check when it opens a file for writing would
// otherwise end the process, all its repositories with it.
func probe(path string) (err error) {
	defer faultIsCorrupt(&err)()
	db, _, err := openFile(path, bolt.Options{Timeout: lockWait, ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: the file has %d bytes of %d", ErrCorrupt, info.Size(), tx.Size())
		}
		if err := checkFreelist(file, int64(db.Info().PageSize), tx); err != nil {
			return err
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("%w: a database of something else", ErrCorrupt)
		}
		row := meta.Get(formatRow)
		if len(row) != 4 {
			return fmt.Errorf("%w: a database of something else", ErrCorrupt)
		}
		n := binary.LittleEndian.Uint32(row)
		if n < formatV1 || n > format {
			return fmt.Errorf("%w: format %d, this program knows %d to %d; a newer one may know it", ErrBadVersion, n, formatV1, format)
		}
		for _, name := range bucketsOf(n) {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: bucket %s is missing", ErrCorrupt, name)
			}
		}
		return nil
	})
}

// faultIsCorrupt makes a panic of this goroutine, also one for a page that cannot
// be read, into ErrCorrupt: that is how bbolt meets damaged pages. Call it
// deferred, with its result called at the end: defer faultIsCorrupt(&err)().
func faultIsCorrupt(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		v := recover()
		if p, ok := v.(callersPanic); ok {
			panic(p.value)
		}
		if v != nil {
			*err = fmt.Errorf("%w: %v", ErrCorrupt, v)
		}
	}
}

// callersPanic is a panic of a function that was handed in: it is none of a damaged page, and goes on.
type callersPanic struct{ value any }

// callback marks the panics of fn as the caller's.
func callback[T any](fn func(T) error) func(T) error {
	return func(row T) error {
		defer func() {
			if v := recover(); v != nil {
				panic(callersPanic{v})
			}
		}()
		return fn(row)
	}
}

// Close waits for the groups in the queue and for readers, and closes the file.
// Closing again returns the same error.
func (x *Index) Close() error {
	x.closeOnce.Do(func() {
		x.mu.Lock()
		x.closed = true
		close(x.queue)
		x.mu.Unlock()
		<-x.ended

		err := x.db.Close()
		if err != nil {
			x.closeErr = withoutPath(fmt.Errorf("close index: %w", err), x.dir)
		}
	})
	return x.closeErr
}

// Failed returns the write error that made the index read-only, or nil.
func (x *Index) Failed() error {
	if err := x.failed.Load(); err != nil {
		return *err
	}
	return nil
}
