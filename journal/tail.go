package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"packhouse/blobstore/vfs"
)

const (
	// aheadBytes are set aside and filled with zeros behind the end of the log, in the background: more than is appended while one
	// step of it lasts, and little enough that many logs can be open.
	aheadBytes = 8 << 20

	// fillStep is how many zeros are written and synced at a time: what an append that comes at the same time waits for.
	fillStep = 256 << 10

	// allocateStep is how much is set aside at a time: so that a file lies in few extents.
	allocateStep = 8 << 20
)

// temporary ends the name of a segment's file while it is being made.
const temporary = ".new"

// tail is a segment that takes records, or will.
type tail struct {
	segmentHeader // as it is in the file, or will be; never changes

	file vfs.File // for appending; used by who has the turn, nil until it is needed

	// What follows is the work ahead's: it is read and changed under Log.mu, and so is filler, which is used by the one goroutine of the work.
	made      bool     // the file is there, durably
	filled    Position // zeros are durable from the end up to here
	allocated Position // space is set aside up to here
	filler    vfs.File // for filling: a descriptor of its own, as an error of a sync is reported once for each
}

// ahead is the state of the one goroutine that makes and fills segments. Guarded by Log.mu.
type ahead struct {
	target  Position // how far it is to come
	running bool
	paused  bool
	err     error // why it stopped before the target
}

// closeFiles is called when neither appends nor the work ahead go on.
func (t *tail) closeFiles() {
	for _, file := range []vfs.File{t.file, t.filler} {
		if file != nil {
			_ = file.Close() // what counts was synced
		}
	}
	t.file, t.filler = nil, nil
}

// segmentAfter returns the segment behind t, and plans it when there is none yet.
func (l *Log) segmentAfter(t *tail) (*tail, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segmentAfterLocked(t)
}

func (l *Log) segmentAfterLocked(t *tail) (*tail, error) {
	for _, next := range l.tails {
		if next.first == t.end() && next.previous == t.salt {
			return next, nil
		}
	}
	if l.tails[len(l.tails)-1] != t {
		return nil, ErrStale // t is of places that were given up
	}
	if t.end() > math.MaxInt64-maxSegmentSize {
		return nil, errFull
	}
	salt, err := randomNumber(l.o.Rand)
	if err != nil {
		return nil, err
	}
	next := &tail{segmentHeader: segmentHeader{
		identity: t.identity, first: t.end(), size: l.o.SegmentSize, epoch: t.epoch,
		salt: salt, previous: t.salt, created: l.o.Now().UnixNano(),
	}}
	l.tails = append(l.tails, next)
	return next, nil
}

// frontierLocked is up to where groups can be written at once.
func (l *Log) frontierLocked() (frontier Position) {
	for _, t := range l.tails {
		if !t.made {
			return frontier
		}
		frontier = min(t.filled, t.end())
		if frontier < t.end() {
			return frontier
		}
	}
	return frontier
}

// reach returns when a group that ends at end can be written. When the space for it is not there already it waits for the work ahead,
// and starts that again if it had failed before. Errors: as of the work, ctx.Err(); nothing was changed.
func (l *Log) reach(ctx context.Context, end Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.readyLocked(); err != nil {
		return err
	}
	if l.frontierLocked() >= end {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.progress.Broadcast()
	})
	defer stop()
	started := false
	for {
		if err := l.readyLocked(); err != nil {
			return err
		}
		if l.frontierLocked() >= end {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !l.ahead.running {
			if started {
				return l.ahead.err
			}
			started = true
			l.workLocked(end)
		}
		l.progress.Wait()
	}
}

// workLocked starts the work ahead, so that it comes as far behind end as aheadBytes.
func (l *Log) workLocked(end Position) {
	l.ahead.target = max(l.ahead.target, end+Position(min(aheadBytes, l.o.SegmentSize/2)))
	if !l.ahead.running && !l.ahead.paused {
		l.ahead.running, l.ahead.err = true, nil
		go l.work()
	}
}

// goOnLocked starts the work when half of what it had set aside is used. After a failure it waits until an append needs it.
func (l *Log) goOnLocked() {
	if l.ahead.err == nil && l.frontierLocked()-l.end < Position(min(aheadBytes, l.o.SegmentSize/2))/2 {
		l.workLocked(l.end)
	}
}

// pauseLocked returns when the work ahead does not run, and none begins until resumeLocked. It lets mu go meanwhile.
func (l *Log) pauseLocked() {
	l.ahead.paused = true
	for l.ahead.running {
		l.progress.Wait()
	}
}

func (l *Log) resumeLocked() { l.ahead.paused = false }

// work takes step after step until the target is reached, a step fails, or it is to pause.
func (l *Log) work() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		step, err := l.stepLocked()
		if err == nil && step != nil {
			l.mu.Unlock()
			err = step()
			l.mu.Lock()
		}
		l.progress.Broadcast()
		if err != nil || step == nil {
			l.ahead.err, l.ahead.running = err, false
			return
		}
	}
}

// stepLocked chooses the next step; nil: there is nothing to do.
func (l *Log) stepLocked() (func() error, error) {
	if l.ahead.paused || l.failed != nil {
		return nil, nil
	}
	for _, t := range l.tails {
		switch {
		case t.first >= l.ahead.target:
			return nil, nil
		case !t.made:
			return func() error { return l.makeTail(t) }, nil
		case t.filled < min(l.ahead.target, t.end()):
			return func() error { return l.fill(t) }, nil
		}
	}
	last := l.tails[len(l.tails)-1]
	if last.end() >= l.ahead.target {
		return nil, nil
	}
	next, err := l.segmentAfterLocked(last)
	if err != nil {
		return nil, err
	}
	return func() error { return l.makeTail(next) }, nil
}

// makeTail makes the file of a planned segment.
func (l *Log) makeTail(t *tail) error {
	file, err := makeSegment(l.o, t.segmentHeader)
	if err != nil {
		var sync *syncError
		if errors.As(err, &sync) {
			return l.fail("make a segment of the log", err)
		}
		return l.changeError("make a segment of the log", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.made, t.filler = true, file
	t.filled = t.first + segmentHeaderSize
	t.allocated = t.filled
	return nil
}

// syncError is of a sync after which it is not known what is durable.
type syncError struct{ err error }

func (e *syncError) Error() string { return e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

// makeSegment makes a segment's file, durably: it has its name only when its header is durable, so that no crash leaves half a
// header under that name. It returns the file, open for writing. On error there is no such file, unless err is a *syncError.
func makeSegment(o Options, h segmentHeader) (vfs.File, error) {
	name := o.Dir + "/" + fileName(h.first)
	file, err := o.FS.Create(name + temporary)
	if errors.Is(err, fs.ErrExist) { // left by a crash
		if err = o.FS.Remove(name + temporary); err == nil {
			file, err = o.FS.Create(name + temporary)
		}
	}
	if err != nil {
		return nil, err
	}
	n, err := file.Write(h.encode())
	if err == nil && n < segmentHeaderSize {
		err = io.ErrShortWrite
	}
	if err == nil {
		// For lack of space the file is made again from the start: nothing is in doubt.
		if err = file.Sync(); err != nil && !noSpace(err) {
			err = &syncError{err}
		}
	}
	if err == nil {
		err = o.FS.Rename(name+temporary, name)
	}
	if err == nil {
		if err = o.FS.SyncDir(o.Dir); err == nil {
			return file, nil
		}
		if !notBegun(err) {
			err = &syncError{err}
		}
	}
	_ = file.Close()
	_ = o.FS.Remove(name + temporary) // what stays is removed when it is in the way, or replaced
	_ = o.FS.Remove(name)
	return nil, err
}

var zeros [fillStep]byte

// fill sets the next bytes behind what is filled aside, and writes zeros there. Where the file system sets nothing aside, the file grows with each append.
func (l *Log) fill(t *tail) error {
	if t.filler == nil {
		file, err := l.o.FS.OpenWrite(l.path(fileName(t.first)))
		if err != nil {
			return l.changeError("open a segment of the log", err)
		}
		l.setTail(func() { t.filler = file })
	}
	from := t.filled
	to := min(t.first+((from-t.first)/fillStep+1)*fillStep, t.end())
	if t.allocated < to {
		allocated, err := l.allocate(t, to)
		if errors.Is(err, errors.ErrUnsupported) {
			allocated, to, err = t.end(), t.end(), nil
			from = to
		}
		if err != nil {
			return l.changeError("set space aside for the log", err)
		}
		l.setTail(func() { t.allocated = allocated })
	}
	if from < to {
		if err := l.write(t.filler, zeros[:to-from], int64(from-t.first)); err != nil {
			return err
		}
		if err := t.filler.Sync(); err != nil {
			return l.fail("sync a segment of the log", err)
		}
	}
	filler := t.filler
	l.setTail(func() {
		if t.filled = to; to == t.end() {
			t.filler = nil
		}
	})
	if to < t.end() {
		return nil
	}
	if err := filler.Close(); err != nil {
		return l.fail("close a segment of the log", err)
	}
	return nil
}

func (l *Log) setTail(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// allocate sets space aside from what was before, at least up to to, and says how far.
func (l *Log) allocate(t *tail, to Position) (Position, error) {
	file, ok := t.filler.(vfs.Allocator)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	from := t.allocated
	far := min(max(from+allocateStep, to), t.end())
	err := file.Allocate(int64(from-t.first), int64(far-from))
	if noSpace(err) && far > to {
		far = to
		err = file.Allocate(int64(from-t.first), int64(far-from))
	}
	return far, err
}

// write writes all of b at an offset. Lack of space is ErrNoSpace; any other failure leaves the bytes there in doubt, and fails the log.
func (l *Log) write(file vfs.File, b []byte, off int64) error {
	n, err := file.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap("write to the log", err))
	}
	return l.fail("write to the log", err)
}

// cutTo makes the file of a segment end at a position, durably: what was behind will not be read again. The work ahead must be paused.
func (l *Log) cutTo(t *tail, end Position) error {
	info, err := l.o.FS.Stat(l.path(fileName(t.first)))
	if err != nil {
		return l.changeError("look at a segment of the log", err)
	}
	if info.Size() <= int64(end-t.first) {
		return nil
	}
	if err := l.openTail(t); err != nil {
		return err
	}
	if err := t.file.Truncate(int64(end - t.first)); err != nil {
		return l.fail("cut off a segment of the log", err)
	}
	if err := t.file.Sync(); err != nil {
		return l.fail("sync a segment of the log", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.filled, t.allocated = end, end
	if t.filler != nil {
		_ = t.filler.Close()
		t.filler = nil
	}
	return nil
}

// openTail opens a segment for appending.
func (l *Log) openTail(t *tail) error {
	if t.file != nil {
		return nil
	}
	file, err := l.o.FS.OpenWrite(l.path(fileName(t.first)))
	if err != nil {
		return l.changeError("open a segment of the log", err)
	}
	t.file = file
	return nil
}

// removeSpares unlinks the segments that were made ahead, and gives up what was planned: newest first, so that no gap is left
// at any time. The work ahead must be paused.
func (l *Log) removeSpares() error {
	l.mu.Lock()
	spares := l.tails[1:]
	l.tails = l.tails[:1:1]
	l.mu.Unlock()
	removed := false
	for i := len(spares) - 1; i >= 0; i-- {
		if !spares[i].made {
			continue
		}
		spares[i].closeFiles()
		if err := l.o.FS.Remove(l.path(fileName(spares[i].first))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.fail("remove a segment of the log", err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return l.fail("sync the directory of the log", err)
	}
	return nil
}
