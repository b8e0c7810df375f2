package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"packhouse/blobstore/vfs"
)

// tail is a segment that takes records, or will.
type tail struct {
	segmentHeader // as it is in the file, or will be; never changes

	file vfs.File // for appending; used by who has the turn, nil until it is needed

	// What follows is the work ahead's: it is read and changed under Log.mu, and so is filler, which is used by the one
	// goroutine of the work.
	made      bool     // the file is there, durably
	filled    Position // zeros are durable from the end up to here
	allocated Position // space is set aside up to here
	filler    vfs.File // for filling: a descriptor of its own, as an error of a sync is reported once for each
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

// write writes all of b at an offset. Lack of space is ErrNoSpace; any other failure leaves the bytes there in doubt, and
// fails the log.
func (l *Log) write(file vfs.File, b []byte, off int64) error {
	n, err := file.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	switch {
	case err == nil:
		return nil
	case vfs.NoSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap("write to the log", err))
	}
	return l.fail("write to the log", err)
}

// cutTo makes the file of a segment end at a position, durably: what was behind will not be read again. The work ahead must
// be paused.
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

// removeSpares unlinks the segments that were made ahead, and gives up what was planned: newest first, so that no gap is
// left at any time. The work ahead must be paused.
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
