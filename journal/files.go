package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"packhouse/blobstore/vfs"
)

// maxOpen is how many segments of one log are open for reading when nobody reads them.
const maxOpen = 32

// segment is one that has records, for readers.
type segment struct {
	first Position

	// Guarded by files.mu.
	open *openSegment // nil: not open
	gone bool         // it was removed
	lost bool         // somebody else has removed its file
}

// openSegment is a segment's file that is open for reading. It is used between use and release.
type openSegment struct {
	segmentHeader
	name string // of the file
	file vfs.File
	in   *files

	users int    // guarded by files.mu, like the rest
	last  uint64 // when it was used last, in counts of use
	done  bool   // to be closed by the last user
}

// files has the segments of a log that are open for reading, a bounded number of them.
type files struct {
	o Options

	identity atomic.Uint64 // of the log; 0 while Replay has not found it out

	mu    sync.Mutex
	open  map[*segment]*openSegment
	count uint64
	ended bool
}

func (f *files) init(o Options) { f.o, f.open = o, make(map[*segment]*openSegment) }

// use opens a segment, or finds it open. Its header is checked when it is opened.
// Errors: *DamageError, ErrVersion, ErrRemoved, ErrClosed, else I/O.
func (f *files) use(s *segment) (*openSegment, error) {
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return nil, ErrClosed
	}
	if o := s.open; o != nil {
		o.users++
		f.count++
		o.last = f.count
		f.mu.Unlock()
		return o, nil
	}
	gone := s.gone
	f.mu.Unlock()
	if gone {
		return nil, ErrRemoved
	}
	o, err := f.load(s.first)
	if err != nil {
		if errors.Is(err, ErrMissing) {
			f.mu.Lock()
			s.lost = true
			f.mu.Unlock()
		}
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	o.users, o.last = 1, f.count
	if f.ended || s.gone || s.open != nil { // another was faster: this one is for its user alone
		o.done = true
		return o, nil
	}
	s.open, s.lost = o, false
	f.open[s] = o
	f.boundLocked()
	return o, nil
}

// lost tells whether the file of a segment was not there when it was last to be opened.
func (f *files) lost(s *segment) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.lost
}

// note keeps whether the file of a segment is there. One that is not is read no more, although it may be open.
func (f *files) note(s *segment, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.lost = !there
	if s.lost {
		f.dropLocked(s)
	}
}

// load opens a segment's file and reads its header.
func (f *files) load(first Position) (*openSegment, error) {
	name := fileName(first)
	file, err := f.o.FS.Open(f.o.Dir + "/" + name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s", ErrMissing, name)
		}
		return nil, wrap("open segment "+name, err)
	}
	b := make([]byte, segmentHeaderSize)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = file.Close()
		return nil, unreadable(name, 0, err)
	}
	h, err := checkHeader(b[:n], name)
	if identity := f.identity.Load(); err == nil && identity != 0 && h.identity != identity {
		err = &DamageError{File: name, What: "it is of another log"}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &openSegment{segmentHeader: h, name: name, file: file, in: f}, nil
}

// checkHeader reads the header of the segment that has a name.
func checkHeader(b []byte, name string) (segmentHeader, error) {
	if what := wholeHeader(b); what != "" {
		return segmentHeader{}, &headerError{DamageError{File: name, What: what}}
	}
	h, what, newer := decodeSegmentHeader(b)
	switch {
	case newer:
		return h, fmt.Errorf("%w: %s: %s", ErrVersion, name, what)
	case what == "" && fileName(h.first) != name:
		what = "it is segment " + fileName(h.first)
	}
	if what != "" {
		return h, &DamageError{File: name, What: what}
	}
	return h, nil
}

// headerError is damage of a segment's header: it is not as it was written.
type headerError struct{ DamageError }

func (e *headerError) Unwrap() []error { return []error{&e.DamageError} }

func unreadable(name string, off int64, err error) error {
	return &DamageError{File: name, Offset: off, What: "cannot be read", Err: vfs.WithoutPath(err)}
}

// boundLocked closes what was not used for the longest time, while too many are open.
func (f *files) boundLocked() {
	for len(f.open) > maxOpen {
		var oldest *segment
		for s, o := range f.open {
			if o.users == 0 && (oldest == nil || o.last < oldest.open.last) {
				oldest = s
			}
		}
		if oldest == nil {
			return
		}
		f.dropLocked(oldest)
	}
}

// dropLocked closes a segment's file, now or when its last user is done.
func (f *files) dropLocked(s *segment) {
	o := s.open
	if o == nil {
		return
	}
	s.open = nil
	delete(f.open, s)
	o.done = true
	if o.users == 0 {
		_ = o.file.Close() // it was only read
	}
}

// release ends what use began.
func (o *openSegment) release() {
	o.in.mu.Lock()
	defer o.in.mu.Unlock()
	o.users--
	if o.users == 0 && o.done {
		_ = o.file.Close()
	}
	o.in.boundLocked()
}

// remove ends the use of a segment: those who have it go on.
func (f *files) remove(s *segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.gone = true
	f.dropLocked(s)
}

// closeAll ends all use: those who have a file go on.
func (f *files) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for s := range f.open {
		f.dropLocked(s)
	}
}
