package journal

import (
	"encoding/binary"
	"time"
)

// What tests calculate with.
const (
	SegmentHeaderSize = segmentHeaderSize
	RecordHeaderSize  = recordHeaderSize
	AheadBytes        = aheadBytes
)

// Seal completes a group and returns its parts as they will lie in files.
func (g *Group) Seal(now time.Time) ([][]byte, error) {
	err := g.seal(now)
	var parts [][]byte
	for _, p := range g.parts {
		parts = append(parts, g.buffer[p.from:p.to])
	}
	return parts, err
}

// Positions returns where each record of a log begins, also those that Replay does not deliver.
func Positions(o Options) (starts []Position, err error) {
	l, err := Open(o)
	if err != nil {
		return nil, err
	}
	w := &walk{l: l, segments: *l.segments.Load(), first: true}
	defer w.close()
	if err := w.begin(w.segments[0].first); err != nil {
		return nil, err
	}
	for {
		broken, err := w.group()
		if broken != nil || err != nil {
			return starts, err
		}
		for _, r := range w.found {
			starts = append(starts, r.position)
		}
	}
}

// Idle returns when nothing is made ahead.
func (l *Log) Idle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.ahead.running {
		l.progress.Wait()
	}
}

// OpenFiles is how many segments are open for reading.
func (l *Log) OpenFiles() int {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	return len(l.files.open)
}

// Abandon stops a log where it is, as if the process had ended.
func (l *Log) Abandon() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.pauseLocked()
	l.closed = true
	for _, t := range l.tails {
		t.closeFiles()
	}
	l.files.closeAll()
}

// RecodeRecord decodes the header of a record and encodes what it found; ok: there was one.
func RecodeRecord(b []byte, salt uint64, at Position) (again []byte, ok bool) {
	h, what := decodeRecordHeader(b, salt, at)
	again = make([]byte, recordHeaderSize)
	h.encode(again, salt)
	return again, what == ""
}

// RecodeSegment does the same with the header of a segment.
func RecodeSegment(b []byte) (again []byte, ok bool) {
	if wholeHeader(b) != "" {
		return nil, false
	}
	h, what, _ := decodeSegmentHeader(b)
	return h.encode(), what == ""
}

// SumRecord puts the checksum of a record's header right.
func SumRecord(b []byte, salt uint64, at Position) {
	binary.LittleEndian.PutUint32(b[recordSumAt:], sumOf(salt, at, b[:recordSumAt]))
}
