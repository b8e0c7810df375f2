package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// content verifies the payloads and the body of a record.
func (w *walk) content(h recordHeader) (broken *DamageError, err error) {
	off := int64(h.position - w.in.first)
	if off+h.size() > w.read.size {
		return w.broken(h.position, fmt.Sprintf("file ends within a record of %d bytes", h.size())), nil
	}
	what := ""
	if !w.rowsOnly {
		if what, err = w.entries(h); err != nil {
			return nil, err
		}
	}
	if what == "" && h.bodyBytes > 0 {
		at := h.position + Position(h.bodyAt())
		body, err := w.read.at(int64(at-w.in.first), int64(h.bodyBytes))
		if err != nil {
			return nil, err
		}
		if sum := sumOf(w.in.salt, at, body); sum != h.bodySum {
			what = fmt.Sprintf("body has crc32c %08x, recorded %08x", sum, h.bodySum)
		}
	}
	if what != "" {
		return w.broken(h.position, what), nil
	}
	return nil, nil
}

// entries verifies the payloads of a record and notes where they lie.
func (w *walk) entries(h recordHeader) (what string, err error) {
	at := h.position + recordHeaderSize
	end := at + Position(h.payloadBytes)
	sum := seed(w.in.salt, h.position)
	for n := range h.payloads {
		if end-at < 4 {
			return fmt.Sprintf("payload %d of %d begins behind the payloads", n+1, h.payloads), nil
		}
		b, err := w.read.at(int64(at-w.in.first), 4)
		if err != nil {
			return "", err
		}
		length := int64(binary.LittleEndian.Uint32(b))
		prefix := entryPrefix(length)
		if int64(end-at) < prefix+length {
			return fmt.Sprintf("payload %d of %d has %d bytes, more than its record", n+1, h.payloads, length), nil
		}
		sums, err := w.read.at(int64(at-w.in.first), prefix)
		if err != nil {
			return "", err
		}
		sum = crc32.Update(sum, castagnoli, sums)
		at += Position(prefix)
		w.sums = append(w.sums[:0], sums[4:]...)
		if what, err := w.blocks(at, length, w.sums); what != "" || err != nil {
			return what, err
		}
		w.payloads = append(w.payloads, Payload{at, length})
		at += Position(length)
	}
	switch {
	case at != end:
		return fmt.Sprintf("%d bytes behind the last payload", end-at), nil
	case h.payloads > 0 && sum != h.entriesSum:
		return fmt.Sprintf("lengths and sums of payloads have crc32c %08x, recorded %08x", sum, h.entriesSum), nil
	}
	return "", nil
}

// blocks verifies the bytes of a payload.
func (w *walk) blocks(at Position, length int64, sums []byte) (what string, err error) {
	for off := int64(0); off < length; off += blockSize {
		n := min(blockSize, length-off)
		b, err := w.read.at(int64(at-w.in.first)+off, n)
		if err != nil {
			return "", err
		}
		sum, want := sumOf(w.in.salt, at+Position(off), b), binary.LittleEndian.Uint32(sums[off/blockSize*4:])
		if sum != want {
			return fmt.Sprintf("payload at %d has crc32c %08x, recorded %08x", at, sum, want), nil
		}
	}
	return "", nil
}
