package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"packhouse/blobstore/vfs"
)

// windowSize is how much of a file is read at a time.
const windowSize = 256 << 10

// window reads a segment's file through a buffer, mostly forward. Not safe for concurrent use.
type window struct {
	of    *openSegment // nil: its header is lost
	file  vfs.File
	name  string
	first Position
	size  int64 // of the file, as far as the segment covers

	buffer []byte
	from   int64 // offset of the buffer in the file
}

func newWindow(in *openSegment) (*window, error) {
	w, err := windowOf(in.file, in.name, in.first, in.size)
	if err == nil {
		w.of = in
	}
	return w, err
}

func windowOf(file vfs.File, name string, first Position, most int64) (*window, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, unreadable(name, 0, err)
	}
	return &window{file: file, name: name, first: first, size: min(info.Size(), most)}, nil
}

// at returns the n bytes from off, until the next call. They must be within size, as whoever asks has looked at.
func (w *window) at(off, n int64) ([]byte, error) {
	if off >= w.from && off+n <= w.from+int64(len(w.buffer)) {
		return w.buffer[off-w.from:][:n], nil
	}
	size := min(max(n, windowSize), w.size-off)
	if size < n {
		return nil, &DamageError{File: w.name, Offset: off, What: fmt.Sprintf("file ends before the %d bytes there", n)}
	}
	if int64(cap(w.buffer)) < size {
		w.buffer = make([]byte, size)
	}
	w.buffer, w.from = w.buffer[:size], off
	read, err := w.file.ReadAt(w.buffer, off)
	if int64(read) == size {
		return w.buffer[:n], nil
	}
	w.buffer = w.buffer[:0]
	if err == nil || errors.Is(err, io.EOF) {
		return nil, &DamageError{File: w.name, Offset: off, What: "file became shorter while it was read"}
	}
	return nil, unreadable(w.name, off, err)
}

// isZero tells whether nothing but zeros lies between two offsets, as far as the file goes.
func (w *window) isZero(from, to int64) (bool, error) {
	for to = min(to, w.size); from < to; {
		n := min(windowSize, to-from)
		b, err := w.at(from, n)
		if err != nil {
			return false, err
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, nil
		}
		from += n
	}
	return true, nil
}

// find returns the first record header from one position to another that is wanted. It may lie at any byte.
func (w *window) find(from, to Position, wanted func(recordHeader) bool) (h recordHeader, found bool, err error) {
	err = w.candidates(int64(from-w.first), int64(to-w.first), func(b []byte, at Position) bool {
		var what string
		h, what = decodeRecordHeader(b, w.of.salt, at)
		found = what == "" && wanted(h)
		return found
	})
	return h, found, err
}

// findPlausible tells whether anything in the file looks like a record.
func (w *window) findPlausible() (found bool, err error) {
	err = w.candidates(0, w.size, func(b []byte, at Position) bool {
		found = plausible(b, at)
		return found
	})
	return found, err
}

// candidates calls fn with what begins like a record, until it returns true.
func (w *window) candidates(off, to int64, fn func(b []byte, at Position) bool) error {
	for to = min(to, w.size); off+recordHeaderSize <= to; {
		n := min(windowSize, to-off)
		b, err := w.at(off, n)
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			next := bytes.Index(b[i:], []byte(recordMagic))
			if next < 0 {
				break
			}
			i += next
			if len(b)-i < recordHeaderSize {
				break
			}
			if fn(b[i:], w.first+Position(off)+Position(i)) {
				return nil
			}
		}
		if off+n >= to {
			return nil
		}
		off += n - recordHeaderSize + 1
	}
	return nil
}
