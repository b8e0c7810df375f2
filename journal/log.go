package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/blobstore/vfs"
)

// defaultSegmentSize is what a segment covers when Options say nothing.
const defaultSegmentSize = 64 << 20

// Options of Create and Open. Dir is required.
type Options struct {
	Dir         string
	FS          vfs.FS           // nil means the operating system's
	SegmentSize int64            // bytes that a new segment covers, 8 KiB … 1 GiB; 0 means 64 MiB
	ReadOnly    bool             // nothing is written: a torn tail stays, and Append refuses
	Now         func() time.Time // for the times of records; nil means time.Now
	Rand        io.Reader        // for the salts of segments; nil means crypto/rand
}

func (o *Options) ensure(what string) error {
	if o.Dir == "" {
		return fmt.Errorf("%s: no directory given", what)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if o.SegmentSize < minSegmentSize || o.SegmentSize > maxSegmentSize {
		return fmt.Errorf("%s: segments of %d bytes, want %d to %d", what, o.SegmentSize, minSegmentSize, maxSegmentSize)
	}
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return nil
}

// Log is an open log. Its methods are safe for concurrent use, but for those of one Group. No two Logs that are not ReadOnly
// may be open on one directory.
type Log struct {
	o     Options
	files files

	leftovers []string // names of files that were being made segments when the log stopped; Replay removes them

	turn chan struct{} // holds a token over Replay, Append, EndAppends and Close: they take turns

	removing sync.Mutex // held over Remove, and by EndAppends and Close, which take it when they have the turn
	unsynced bool       // entries were unlinked, and the directory was not synced yet; guarded by removing

	// segments are those with records, and while Replay has not returned all that there are; sorted, replaced (under mu) and
	// never modified, so that readers need no lock.
	segments atomic.Pointer[[]*segment]
	durable  atomic.Int64 // end, for readers; endUnknown while Replay has not returned

	since time.Time    // when the log was opened
	began atomic.Int64 // time from there to the begin of the Append under way, in nanoseconds and at least 1; 0: none is

	mu         sync.Mutex // guards what follows; held for a look or a change of it only
	progress   *sync.Cond // on mu: a step of the work ahead of the end is done, or has failed
	generation uint64     // grows when groups that were begun lose their places
	replayed   bool
	ended      bool  // it takes no more changes
	closed     bool  // ended, and nobody reads
	failed     error // the first error after which nothing may be appended; sticky
	identity   uint64
	dropped    *DamageError
	end        Position // behind the last group that is durable
	opened     Position // where that was when the log was opened
	tails      []*tail  // the segment in which the log ends, then those made ahead, then those only planned; each follows the one before
	ahead      ahead
}

// endUnknown is a position that no log comes to.
const endUnknown = math.MaxInt64

// Create makes the first segment of a log, in Dir, which is made if it is missing; its first group will lie at Position
// first + 4096, and replay from first on finds all. epoch is recorded with all that is
// appended. When err is nil the log is on stable storage, with all directory entries.
// Errors: ErrExists, ErrNoSpace, else I/O; after these Create may be called again.
func Create(o Options, first Position, epoch uint64) error {
	if err := o.ensure("create log"); err != nil {
		return err
	}
	if first < 0 {
		return fmt.Errorf("create log: position %d", first)
	}
	if err := o.FS.Mkdir(o.Dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return createError("make the directory of the log", err)
	}
	if err := o.FS.SyncDir(filepath.Dir(filepath.Clean(o.Dir))); err != nil {
		return createError("sync the directory above the log", err)
	}
	firsts, _, err := listSegments(o)
	if err != nil {
		return err
	}
	if len(firsts) > 0 {
		return ErrExists
	}
	h := segmentHeader{first: first, size: o.SegmentSize, epoch: epoch, created: o.Now().UnixNano()}
	if h.identity, err = randomNumber(o.Rand); err != nil {
		return err
	}
	if h.salt, err = randomNumber(o.Rand); err != nil {
		return err
	}
	file, err := makeSegment(o, h)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return createError("create log", err)
	}
	return nil
}

func createError(op string, err error) error {
	if vfs.NoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap(op, err))
	}
	return wrap(op, err)
}

// randomNumber is never 0.
func randomNumber(source io.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(source, b[:]); err != nil {
		return 0, wrap("draw a salt", err)
	}
	return binary.LittleEndian.Uint64(b[:]) | 1, nil
}

// listSegments returns the positions that the files of segments are named by, sorted, and the names of those that were being
// made. Other names are nobody's business here.
func listSegments(o Options) (firsts []Position, leftovers []string, err error) {
	entries, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return nil, nil, wrap("list the segments of the log", err)
	}
	for _, entry := range entries {
		name, unfinished := strings.CutSuffix(entry.Name(), temporary)
		first, ok := parseName(name)
		switch {
		case ok && unfinished:
			leftovers = append(leftovers, entry.Name())
		case ok:
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, leftovers, nil
}

// Open opens a log that Create made. It writes nothing, and reads no more than names and one header: its cost does not
// depend on what is in the log. Replay has to be called before anything else that is about records. Errors: ErrNotFound,
// ErrVersion, else I/O. Damage is Replay's to tell.
func Open(o Options) (*Log, error) {
	if err := o.ensure("open log"); err != nil {
		return nil, err
	}
	firsts, leftovers, err := listSegments(o)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(firsts) == 0 {
		return nil, ErrNotFound
	}
	l := &Log{o: o, turn: make(chan struct{}, 1), leftovers: leftovers, since: time.Now()}
	l.progress = sync.NewCond(&l.mu)
	l.files.init(o)
	segments := make([]*segment, len(firsts))
	for i, first := range firsts {
		segments[i] = &segment{first: first}
	}
	l.segments.Store(&segments)
	l.durable.Store(endUnknown)
	// A newer version has left its mark on the newest segment first.
	h, err := l.files.use(segments[len(segments)-1])
	switch {
	case err == nil:
		h.release()
	case errors.Is(err, ErrCorrupt):
	default:
		return nil, err
	}
	return l, nil
}

// Appending is how long the Append under way has taken so far; 0 when none is. A long time means that the disk does not answer.
func (l *Log) Appending() time.Duration {
	began := time.Duration(l.began.Load())
	if began == 0 {
		return 0
	}
	return time.Since(l.since) - began
}

// End is the position behind the last group that is durable. It is 0 before Replay.
func (l *Log) End() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// Identity is a random number that all segments of the log have in common, drawn by Create: whoever keeps positions of a log
// can tell by it that it is the same log. It is 0 before Replay.
func (l *Log) Identity() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.identity
}

// Dropped tells what Replay found of a group that was being appended when the log stopped, and that it dropped (or, of a log
// that is ReadOnly, would have): where it is not whole. nil: there was nothing. It is for the caller's log: nothing is
// wrong.
func (l *Log) Dropped() *DamageError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// MaxRecord is how many bytes a body, or a payload with its sums (4 bytes and 4 for each 64 KiB), may have at most.
func (l *Log) MaxRecord() int64 { return l.o.SegmentSize - segmentHeaderSize - 2*recordHeaderSize }

// Failed returns the first write or sync error after which Append and Remove refuse with ErrFailed; nil while all is
// well. ErrNoSpace is no such error, unless a sync reported it. Reading goes on.
func (l *Log) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// readyLocked refuses changes of a log that takes none.
func (l *Log) readyLocked() error {
	switch {
	case l.ended:
		return ErrClosed
	case l.failed != nil:
		return fmt.Errorf("%w: %w", ErrFailed, l.failed)
	case l.o.ReadOnly:
		return ErrReadOnly
	case !l.replayed:
		return errNotReplayed
	}
	return nil
}

// fail makes the log read-only because of err, and returns what to tell the caller.
func (l *Log) fail(op string, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failLocked(op, err)
}

func (l *Log) failLocked(op string, err error) error {
	if l.ended && errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("%w: %s", ErrClosed, op) // the directory was let go of; the disk is not to blame
	}
	cause := wrap(op, err)
	if vfs.NoSpace(err) {
		cause = fmt.Errorf("%w: %w", ErrNoSpace, cause)
	}
	if l.failed == nil {
		l.failed = cause
	}
	l.progress.Broadcast()
	return fmt.Errorf("%w: %w", ErrFailed, cause)
}

// changeError is for a change that failed and was no sync and left nothing in doubt: a dead disk fails the log, lack of
// space what is under way.
func (l *Log) changeError(op string, err error) error {
	switch {
	case vfs.NoSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap(op, err))
	case vfs.DiskGone(err):
		return l.fail(op, err)
	}
	return wrap(op, err)
}

func (l *Log) path(name string) string { return filepath.Join(l.o.Dir, name) }

// EndAppends ends all changes of the log: what is called about them after it is refused with ErrClosed. It waits for what
// is under way, and gives back the space that was set aside: the last segment's file ends where its records do, so that the
// next Replay has nothing to search behind them. What was appended is durable without it. Reading goes on until Close.
//
// Who has the log for itself by a lock calls it before the lock is given up: the next one who has it appends where this cuts off.
func (l *Log) EndAppends() error { return l.endAppends(true) }

// Leave is EndAppends without any change in the directory: for a log of which the directory was taken away, and in whose place
// another one lies now.
func (l *Log) Leave() { _ = l.endAppends(false) } // it does nothing that could fail

// endAppends is EndAppends; giveBack: also the space that was set aside.
func (l *Log) endAppends(giveBack bool) error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.removing.Lock()
	defer l.removing.Unlock()
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return nil
	}
	l.pauseLocked()
	l.ended = true
	trim := giveBack && l.replayed && l.failed == nil && !l.o.ReadOnly
	l.progress.Broadcast()
	l.mu.Unlock()
	if trim {
		return l.trim()
	}
	return nil
}

// Close is EndAppends, and ends reading, which is refused with ErrClosed.
func (l *Log) Close() error {
	err := l.EndAppends()
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.removing.Lock()
	defer l.removing.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for _, t := range l.tails {
		t.closeFiles()
	}
	l.mu.Unlock()
	l.files.closeAll()
	return err
}

// trim gives back what was set aside behind the end.
func (l *Log) trim() error {
	if err := l.cutTo(l.tails[0], l.end); err != nil {
		return err
	}
	return l.removeSpares()
}
