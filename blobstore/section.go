package blobstore

import (
	"bytes"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"packhouse/blobstore/vfs"
)

// windowSize is how many bytes a Section holds at most, in whole blocks: what one reader costs in memory, however slow it is.
const windowSize = 4 * blockSize

// Section returns a reader of n payload bytes from off. off+n beyond the end is ErrRange. Only one Section of a Blob may be in
// use at a time.
//
// Where nothing is checked, it has the form that net/http can send by sendfile (an *io.LimitedReader over the *os.File; a
// further io.LimitReader or io.CopyN around it would undo that), and shares the file's position. Else it is a *Section.
func (b *Blob) Section(off, n int64) (io.Reader, error) {
	if off < 0 || n < 0 || off > b.info.Size || n > b.info.Size-off {
		return nil, fmt.Errorf("%w: %d bytes from %d of a blob of %d", ErrRange, n, off, b.info.Size)
	}
	if b.file == nil {
		if b.closed {
			return nil, errClosed
		}
		return bytes.NewReader(b.bytes[off : off+n]), nil
	}
	section := &Section{b: b, off: off, end: off + n}
	switch file, ok := b.file.(vfs.OSFiler); {
	case b.check && (b.sums != nil || b.recheck != nil):
	case !b.s.unchecked && n == b.info.Size && n > 0 && b.info.Hashed():
		section.whole = blake3.New()
	case b.check:
	case !ok:
		return io.NewSectionReader(b, off, n), nil
	default:
		if _, err := file.OSFile().Seek(off, io.SeekStart); err != nil {
			return nil, wrap("read blob", err)
		}
		return &io.LimitedReader{R: file.OSFile(), N: n}, nil
	}
	return section, nil
}

// Section reads a part of a blob, or all of it. What it hands out was checked: against the checksums of its blocks; or, of a
// blob that has none yet, the last window only when the BLAKE3 of all is right, so that who reads it never has all of a blob
// that is not.
type Section struct {
	b        *Blob
	off, end int64          // what was not read from the blob yet
	whole    *blake3.Hasher // of all that was read; nil: blocks are checked
	window   *[]byte        // what have lies in; nil: none
	have     []byte         // read, and not handed out yet
	err      error          // what the next reading from the blob would give
}

// Begin reads the first bytes, so that what is wrong with them is known before any is handed out. Read and WriteTo do it too.
func (r *Section) Begin() error {
	switch {
	case len(r.have) > 0:
		return nil
	case r.err != nil || r.off == r.end:
		return r.err
	}
	if r.window == nil {
		r.window = r.b.s.windows.Get().(*[]byte)
	}
	n := min(windowSize-r.off%blockSize, r.end-r.off) // ends with a block
	m, err := r.b.ReadAt((*r.window)[:n], r.off)
	if int64(m) == n {
		err = nil // perhaps it was the end
	}
	r.have = (*r.window)[:m]
	r.off += int64(m)
	if r.whole != nil {
		_, _ = r.whole.Write(r.have)
		if err == nil && r.off == r.end {
			err = r.prove()
		}
		if err != nil {
			r.have = nil
		}
	}
	if r.err = err; len(r.have) > 0 {
		return nil
	}
	return err
}

// prove compares the BLAKE3 of all that was read.
func (r *Section) prove() error {
	if got := [32]byte(r.whole.Sum(nil)); got != r.b.info.BLAKE3 {
		if r.b.recheck != nil {
			if _, err := r.b.recheck(); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w: BLAKE3 %x, recorded %x", ErrCorrupt, got, r.b.info.BLAKE3)
	}
	return nil
}

func (r *Section) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.Begin(); err != nil {
		return 0, err
	}
	n := copy(p, r.have)
	if r.have = r.have[n:]; n == 0 {
		r.release()
		return 0, io.EOF
	}
	return n, nil
}

// WriteTo writes window by window, without another copy.
func (r *Section) WriteTo(w io.Writer) (total int64, err error) {
	defer r.release()
	for {
		if err := r.Begin(); err != nil {
			return total, err
		}
		if len(r.have) == 0 {
			return total, nil
		}
		n, err := w.Write(r.have)
		total += int64(n)
		r.have = r.have[n:]
		if err != nil {
			return total, err
		}
	}
}

// release gives the window back, when nothing of it will be handed out.
func (r *Section) release() {
	if r.window != nil {
		r.b.s.windows.Put(r.window)
		r.window, r.have = nil, nil
	}
}
