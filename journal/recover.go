package journal

import (
	"errors"
	"packhouse/blobstore/vfs"
)

// torn tells whether a group that is not whole was being appended when the log stopped: nil, and it may be dropped. If a
// group was begun after it, it had been acknowledged, so that it is damage.
func (w *walk) torn(broken *DamageError) error {
	begunLater := func(h recordHeader) bool { return h.group > w.named }
	at := w.in.first + Position(broken.Offset)
	_, found, err := w.read.find(at, w.in.end(), begunLater)
	if err != nil || found {
		return errorOr(err, broken)
	}
	for _, s := range w.segments[w.index+1:] {
		found, err := w.inLater(s, begunLater)
		if err != nil || found {
			return errorOr(err, broken)
		}
	}
	return nil
}

// inLater looks for records in a segment behind the one that is broken.
func (w *walk) inLater(s *segment, wanted func(recordHeader) bool) (found bool, err error) {
	in, err := w.l.files.use(s)
	header, damaged := errors.AsType[*headerError](err)
	if damaged {
		return false, w.behindHeader(s, header)
	}
	if err != nil {
		return false, err
	}
	defer in.release()
	if in.identity != w.in.identity {
		return false, &DamageError{File: in.name, What: "it is of another log"}
	}
	if in.first == w.in.end() && in.previous != w.in.salt {
		return false, &DamageError{File: in.name, What: "it does not follow " + w.in.name}
	}
	read, err := newWindow(in)
	if err != nil {
		return false, err
	}
	_, found, err = read.find(in.first+segmentHeaderSize, in.end(), wanted)
	return found, err
}

// behindHeader is for a segment whose header is damaged. The header was durable before the first record was written: if
// there is one, the damage is no torn write. A file that never was a segment is nobody's to remove.
func (w *walk) behindHeader(s *segment, header *headerError) error {
	file, err := w.l.o.FS.Open(w.l.path(fileName(s.first)))
	if err != nil {
		return wrap("open segment "+fileName(s.first), err)
	}
	defer file.Close()
	read, err := windowOf(file, fileName(s.first), s.first, maxSegmentSize)
	if err != nil {
		return err
	}
	head, err := read.at(0, min(read.size, int64(len(segmentMagic))))
	if err != nil {
		return err
	}
	unused, err := read.isZero(0, segmentHeaderSize)
	if err != nil {
		return err
	}
	if string(head) != segmentMagic && !unused {
		return &header.DamageError
	}
	found, err := read.findPlausible()
	if err != nil || found {
		return errorOr(err, &header.DamageError)
	}
	return nil
}

func errorOr(err error, broken *DamageError) error {
	if err != nil {
		return err
	}
	return broken
}

// noteDropped keeps for Dropped what is about to be dropped: zeros were set aside, everything else was written.
func (w *walk) noteDropped(broken *DamageError) error {
	zero := w.startIn == w.index
	if zero {
		var err error
		if zero, err = w.read.isZero(int64(w.start-w.in.first), w.read.size); err != nil {
			return err
		}
	}
	if !zero {
		w.l.mu.Lock()
		defer w.l.mu.Unlock()
		w.l.dropped = broken
	}
	return nil
}

// finish makes the log one that can be appended to, or read.
func (w *walk) finish() error {
	l := w.l
	all := *l.segments.Load()
	last := len(all) - len(w.segments) + w.startIn
	later := all[last+1:]
	kept := all[: last+1 : last+1]
	in, err := l.files.use(all[last])
	if err != nil {
		return err
	}
	defer in.release()
	active := &tail{segmentHeader: in.segmentHeader, made: true, filled: w.start, allocated: w.start}
	l.mu.Lock()
	l.identity, l.end, l.opened = in.identity, w.start, w.start
	l.tails = []*tail{active}
	l.mu.Unlock()
	if !l.o.ReadOnly {
		if err := l.cutTo(active, w.start); err != nil {
			return err
		}
		if err := l.removeLater(later); err != nil {
			return err
		}
	}
	l.files.identity.Store(in.identity)
	l.segments.Store(&kept)
	l.durable.Store(int64(w.start))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replayed = true
	return nil
}

// removeLater unlinks segments behind the end, newest first: they were made ahead, or were reached by the group that is
// dropped. Files that were being made go, too.
func (l *Log) removeLater(later []*segment) error {
	names := l.leftovers
	for i := len(later) - 1; i >= 0; i-- {
		names = append(names, fileName(later[i].first))
		l.files.remove(later[i])
	}
	for _, name := range names {
		if err := l.o.FS.Remove(l.path(name)); err != nil {
			return l.changeError("remove a segment of the log", err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		if vfs.NotBegun(err) {
			return wrap("sync the directory of the log", err)
		}
		return l.fail("sync the directory of the log", err)
	}
	return nil
}
