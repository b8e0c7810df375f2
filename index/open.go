package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	_ "packhouse/internal/platform" // Linux only
	"packhouse/journal"
)

const (
	// lockWait is how long Open waits for another holder of the file to let go:
	// a process that is just ending, not one that serves; lockStep, between two tries.
	lockWait = 500 * time.Millisecond
	lockStep = 50 * time.Millisecond

	// renewAfter is the age at which a walk changes to a newer snapshot, so that
	// a slow reader does not keep the pages of an old one from being used again.
	renewAfter = 2 * time.Second
)

// Index is one open index. Its methods are safe for concurrent use.
type Index struct {
	dir        string // of the file; taken out of error texts
	opened     atomic.Pointer[openedFile]
	opts       Options
	renewAfter time.Duration
	file       *os.File // which db has too

	// db is for who holds pending.checkpointing, for the commit loop where there is no log, and for Open and Close before
	// and after them. So are the next four.
	db        *bolt.DB
	last      committed
	wrote     uint64    // transaction that was committed last; 0: none since the file was opened
	mapped    int       // bytes of the file's memory mapping
	rewritten time.Time // when the file was last rewritten, or it was tried
	broken    bool      // db met what it cannot cope with, and is called no more

	// mu is held for reading while a group is being put into queue, and for
	// writing while Close closes queue.
	mu     sync.RWMutex
	closed bool
	queue  chan *group
	ended  chan struct{} // closed when the commit loop has returned

	log      *journal.Log     // nil: groups go into the file at once, or not at all
	payloads *journal.Log     // of which payloads are read: log, or, after ReadLog, one that is read only
	before   applied          // of a file that is opened for Rebuild: what it had of which log; of log 0: of none
	pending  pending          // rows that are in the log and not in the file
	encoded  []byte           // memory for rows; for the commit loop, as the next
	group    journal.Group    // memory for what is appended
	metaIn   journal.Position // the segment in which the meta values are, see repeatMeta; negative: not known

	snapshots  snapshots                 // what readers see
	failed     atomic.Pointer[error]     // first write error, sticky; set by the commit loop
	gone       atomic.Pointer[error]     // the file was moved, removed or replaced, sticky; set by the commit loop
	lost       atomic.Pointer[error]     // why it was given up, sticky
	damage     atomic.Pointer[error]     // the first that was found
	counters   atomic.Pointer[Counters]  // of the last commit; replaced, never modified
	charges    atomic.Int64              // of the last commit
	lastBackup atomic.Pointer[time.Time] // of the last commit; nil: none yet

	closeOnce sync.Once
	closeErr  error
}

// Open opens the index at path and takes its file lock. If another process has it open, the error is ErrLocked after a short wait. A
// missing file is ErrNotFound.
//
// Open reads the list of free pages and all branch pages, about 25 in a thousand pages, also after a crash. bbolt is called only
// after they have been checked, because a branch that leads back to itself would end the process. Each commit writes the list
// of free pages, which bbolt would otherwise collect from all pages.
//
// Errors: also ErrBadVersion, ErrCorrupt (not an index, or damaged, and how), else I/O.
func Open(path string, opts Options) (*Index, error) { return openSized(path, opts, hugeMap()) }

// openSized is Open with a size of the memory mapping, if there is address space for it.
func openSized(path string, opts Options, mapSize int) (*Index, error) {
	x := newIndex(filepath.Dir(path), opts)
	if err := x.open(path, mapSize); err != nil {
		return nil, withoutPath(fmt.Errorf("open index: %w", err), x.dir)
	}
	x.run()
	return x, nil
}

// run starts the loops of an open index.
func (x *Index) run() {
	go x.commitLoop()
	go x.checkpointLoop()
}

// newIndex is one that is not open yet.
func newIndex(dir string, opts Options) *Index {
	x := &Index{
		dir:        dir,
		opts:       opts,
		renewAfter: renewAfter,
		queue:      make(chan *group, maxGroups),
		ended:      make(chan struct{}),
		metaIn:     -1,
	}
	x.snapshots.changed.L = &x.snapshots.mu
	x.pending.init()
	return x
}

func (x *Index) open(path string, mapSize int) error {
	bad, err := x.openFile(path, mapSize)
	if mapSize > smallMap && errors.Is(err, syscall.ENOMEM) { // a limit on address space
		bad, err = x.openFile(path, smallMap)
	}
	if err != nil {
		return err
	}
	x.note(bad)
	if !x.opts.ReadOnly {
		// A process that was killed may have left a commit that only the page cache has, or the file's name.
		err = errors.Join(x.db.Sync(), syncDir(x.fsys(), x.dir))
	}
	if err := errors.Join(err, x.begin()); err != nil {
		return errors.Join(err, x.end())
	}
	return nil
}

// begin makes the file one of today's format, if it may be changed, reads the log, and takes what is kept in memory of the last commit.
func (x *Index) begin() error {
	x.show()
	var n uint32
	err := x.view(func(v *view) (err error) {
		n, err = formatOf(v)
		return err
	})
	if err == nil && n != format && !x.opts.ReadOnly && x.opts.Use != Hold {
		err = x.upgrade(n)
	}
	if err == nil && x.opts.Use != Hold {
		err = x.beginLog(n)
	}
	if err != nil {
		return err
	}
	return x.loadCommitted()
}

// loadCommitted takes what is kept in memory of the last commit.
func (x *Index) loadCommitted() error {
	return x.view(func(v *view) error {
		counters, err := decodeCounters(v.Bucket(bucketCounters).Get(totalRow))
		if err != nil {
			return err
		}
		x.counters.Store(&counters)
		x.lastBackup.Store(readLastBackup(v.Bucket(bucketWriters)))
		return x.loadCharges(v)
	})
}

// formatOf is the format of an index, which must have all its buckets.
func formatOf(v *view) (uint32, error) {
	row := v.Bucket(bucketMeta).Get(formatRow)
	if len(row) != 4 {
		return 0, fmt.Errorf("%w: a database of something else", ErrCorrupt)
	}
	n := binary.LittleEndian.Uint32(row)
	if n < formatV1 || n > format {
		return 0, fmt.Errorf("%w: format %d, this program knows %d to %d; a newer one may know it", errBadVersion, n, formatV1, format)
	}
	for id := bucketMeta; id < bucketsOf(n); id++ {
		if !v.has(id) {
			return 0, missingBucket(id)
		}
	}
	return n, nil
}

// upgrade makes a file of an older format one of today's, in one transaction: after a crash it is of the one or of
// the other. What an older format has stays as it is; in one of format 1 the items are read once, for their marks.
func (x *Index) upgrade(from uint32) error {
	err := x.transaction(func(btx *bolt.Tx, g *guard) error {
		for id := bucketsOf(from); id < bucketsOf(format); id++ {
			if _, err := btx.CreateBucket([]byte(id.String())); err != nil {
				return err
			}
		}
		if from == formatV1 {
			if err := countMarks(g, g.bucket(btx, bucketCounters)); err != nil {
				return err
			}
		}
		meta := g.bucket(btx, bucketMeta)
		for _, id := range []bucketID{bucketTrash, bucketPlans, bucketKept} {
			if !g.s.has(id) || from >= formatV3 { // there sequences are rows
				continue
			}
			if n := btx.Bucket([]byte(id.String())).Sequence(); n > 0 {
				if err := meta.Put(sequenceRow(id), encodeSequence(n)); err != nil {
					return err
				}
			}
		}
		return meta.Put(formatRow, binary.LittleEndian.AppendUint32(nil, format))
	})
	if err != nil {
		return fmt.Errorf("upgrade to format %d: %w", format, err)
	}
	x.show()
	return nil
}

// Close waits for queued groups, makes a checkpoint, ends the log, waits for readers at most ten seconds, and closes the files. Closing again returns
// the same error.
func (x *Index) Close() error {
	x.closeOnce.Do(func() {
		x.pending.endRewrites()
		x.mu.Lock()
		x.closed = true
		close(x.queue)
		x.mu.Unlock()
		<-x.ended
		close(x.pending.stop)
		<-x.pending.stopped
		err := x.lastCheckpoint()
		if x.payloads != nil {
			err = errors.Join(err, x.payloads.Close())
		}
		if err != nil {
			x.closeErr = withoutPath(fmt.Errorf("close index: %w", err), x.dir)
		}
	})
	return x.closeErr
}

// lastCheckpoint makes a checkpoint, and gives the file back before anyone can make another.
func (x *Index) lastCheckpoint() (err error) {
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	if x.log != nil {
		// What cannot go into the file now is in the log, and read from there when the index is opened again.
		_ = x.checkpoint()
		// Before the lock goes with the file: what the next holder appends lies where this cuts off. Of a directory that was moved or
		// removed there is nothing to give back, and in one that took its place files of these names are another's.
		if moved := x.Attached(); moved != nil && !errors.Is(moved, fs.ErrNotExist) {
			x.log.Leave()
		} else if logErr := x.log.EndAppends(); !errors.Is(logErr, fs.ErrNotExist) {
			err = logErr
		}
	}
	x.pending.ended = true
	return errors.Join(err, x.end())
}

// end lets nobody read any more, and gives the file back.
func (x *Index) end() error {
	x.snapshots.end(ErrClosed)
	ended, drained := x.snapshots.drain(closeWait)
	var err error
	if !x.broken && drained {
		err = rollback(ended)
	}
	return errors.Join(err, x.closeFile(drained))
}

// Writing is how long the commit that the disk is writing has taken so far; 0 when there is none.
func (x *Index) Writing() time.Duration {
	if x.log == nil {
		return 0
	}
	return x.log.Appending()
}

// Failed returns the write error that made the index read-only, or nil.
func (x *Index) Failed() error {
	if err := x.failed.Load(); err != nil {
		return *err
	}
	if x.log != nil {
		if err := x.log.Failed(); err != nil { // what it does ahead, too
			return fmt.Errorf("%w: %w", ErrFailed, withoutPath(err, x.dir))
		}
	}
	return nil
}
