package journal

import (
	"cmp"
	"errors"
	"io/fs"
	"packhouse/blobstore/vfs"
	"slices"
	"sort"
)

// Segment is one file of the log.
type Segment struct {
	First Position // where it begins
	End   Position // where the next one begins, or the log ends; positions between two segments were removed
}

// Segments returns those that have records, oldest first; the log ends in the last one.
func (l *Log) Segments() []Segment {
	all := *l.segments.Load()
	end := l.End()
	list := make([]Segment, len(all))
	for i, s := range all {
		list[i] = Segment{First: s.first, End: end}
		if i+1 < len(all) {
			list[i].End = all[i+1].first
		}
	}
	return list
}

// Look notes of which segments the files are there, for HasSegment: somebody may have removed one, or put it back.
func (l *Log) Look() error {
	all := *l.segments.Load() // before the names: what is made meanwhile is not among these
	firsts, _, err := listSegments(l.o)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, s := range all {
		_, there := slices.BinarySearch(firsts, s.first)
		l.files.note(s, there)
	}
	return nil
}

// HasSegment tells whether there is a segment that begins at a position, as far as Look and who reads it have noticed.
func (l *Log) HasSegment(first Position) bool {
	all := *l.segments.Load()
	i, found := slices.BinarySearchFunc(all, first, func(s *segment, first Position) int { return cmp.Compare(s.first, first) })
	return found && !l.files.lost(all[i])
}

// SegmentOf returns where the segment begins that a position lies in, also one of a group that is not appended yet. ok is
// false for a position before the oldest segment. One in a gap that RemoveSegment left is taken for one of the segment
// before it.
func (l *Log) SegmentOf(at Position) (first Position, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tails {
		if at >= t.first && at < t.end() {
			return t.first, true
		}
	}
	all := *l.segments.Load()
	i := sort.Search(len(all), func(i int) bool { return all[i].first > at }) - 1
	if i < 0 {
		return 0, false
	}
	return all[i].first, true
}

// Remove unlinks the segments of which all positions are before a position, durably; never the one in which the log ends.
// Payloads that are open stay readable. Errors: ErrFailed, ErrReadOnly, ErrClosed, else I/O: it may be called again.
func (l *Log) Remove(before Position) error {
	return l.remove(func(s Segment) bool { return s.End <= before })
}

// RemoveSegment is Remove for the one segment that begins at first. Replay does not go over the gap that it leaves: the
// position from which it will be asked to must not lie in it, or before it.
func (l *Log) RemoveSegment(first Position) error {
	return l.remove(func(s Segment) bool { return s.First == first })
}

func (l *Log) remove(chosen func(Segment) bool) error {
	l.removing.Lock()
	defer l.removing.Unlock()
	l.mu.Lock()
	err := l.readyLocked()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	list := l.Segments()
	all := *l.segments.Load()
	for i, s := range all[:len(all)-1] {
		if !chosen(list[i]) {
			continue
		}
		if err := l.o.FS.Remove(l.path(fileName(s.first))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.changeError("remove a segment of the log", err)
		}
		l.forget(s)
		l.unsynced = true
	}
	if !l.unsynced {
		return nil
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		if vfs.NotBegun(err) {
			return wrap("sync the directory of the log", err)
		}
		return l.fail("sync the directory of the log", err)
	}
	l.unsynced = false
	return nil
}

// forget takes a segment out of the list.
func (l *Log) forget(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(*l.segments.Load()), func(other *segment) bool { return other == s })
	l.segments.Store(&kept)
	l.files.remove(s)
}
