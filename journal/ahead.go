package journal

import (
	"context"
	"errors"

	"packhouse/blobstore/vfs"
)

const (
	// aheadBytes are set aside and filled with zeros behind the end of the log, in the background: more than is appended
	// while some steps of it last, and little, as on a disk that is nearly full it is taken from what is left for others. A log that was just opened has a fillStep, and then as much as was appended to it: most
	// of many logs are hardly used.
	aheadBytes = 1 << 20

	// fillStep is how many zeros are written and synced at a time: what an append that comes at the same time waits for.
	fillStep = 256 << 10

	// allocateStep is how much is set aside at a time: so that a file lies in few extents.
	allocateStep = 1 << 20
)

// ahead is the state of the one goroutine that makes and fills segments. Guarded by Log.mu.
type ahead struct {
	target  Position // how far it is to come
	running bool
	paused  bool
	err     error // why it stopped before the target
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

// reach returns when a group that ends at end can be written. When the space for it is not there already it waits for the
// work ahead, and starts that again if it had failed before. Errors: as of the work, ctx.Err(); nothing was changed.
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

// workLocked starts the work ahead, so that it comes as far behind end as it should.
func (l *Log) workLocked(end Position) {
	l.ahead.target = max(l.ahead.target, end+l.aheadLocked())
	if !l.ahead.running && !l.ahead.paused {
		l.ahead.running, l.ahead.err = true, nil
		go l.work()
	}
}

// aheadLocked is how much should be filled behind the end.
func (l *Log) aheadLocked() Position {
	return Position(min(max(int64(l.end-l.opened), fillStep), aheadBytes, l.o.SegmentSize/2))
}

// goOnLocked starts the work when half of what it had set aside is used. After a failure it waits until an append needs it.
func (l *Log) goOnLocked() {
	if l.ahead.err == nil && l.frontierLocked()-l.end < l.aheadLocked()/2 {
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

var zeros [fillStep]byte

// fill sets the next bytes behind what is filled aside, and writes zeros there. Where the file system sets nothing aside,
// the file grows with each append.
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
	l.mu.Lock()
	step := min(allocateStep, l.aheadLocked())
	l.mu.Unlock()
	far := min(max(from+step, to), t.end())
	err := file.Allocate(int64(from-t.first), int64(far-from))
	if vfs.NoSpace(err) && far > to {
		far = to
		err = file.Allocate(int64(from-t.first), int64(far-from))
	}
	return far, err
}
