package blobstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/zeebo/blake3"
)

// Replacement is a new file for a blob whose own is damaged or missing. It must be ended by Commit or Discard. Not safe for
// concurrent use.
type Replacement struct {
	s    *Store
	id   blobID // of the blob
	from blobID // the name of the new file in incoming/
	done bool
}

// Replace writes a new file for a blob, in incoming/, with the bytes that from has, and makes them durable. want is what the blob must
// be, with its BLAKE3: other bytes are ErrCorrupt. label is for a file of format 1, which has it at its end. Nothing of the blob is
// changed until Commit. Errors: those of Create and Writer.Write, ErrCorrupt, that of from, ErrNewer, ctx.Err().
func (s *Store) Replace(ctx context.Context, ref Ref, want Info, label []byte, from io.Reader) (*Replacement, error) {
	id, err := ref.id()
	if err != nil {
		return nil, err
	}
	if !want.Hashed() || len(label) > MaxLabel {
		return nil, fmt.Errorf("replace blob: its BLAKE3 is not known, or a label of %d bytes", len(label))
	}
	if err := errors.Join(ctx.Err(), s.ready()); err != nil {
		return nil, err
	}
	w := &Writer{s: s, hasher: s.hashers.Get().(*blake3.Hasher)}
	if err := w.createFile(); err != nil {
		w.release()
		return nil, err
	}
	defer w.Abort() // nothing, after finish
	if err := copyUntil(ctx, w, from); err != nil {
		return nil, err
	}
	if got := (Info{Size: w.size, BLAKE3: w.BLAKE3()}); got != want {
		return nil, fmt.Errorf("%w: %d bytes, BLAKE3 %x; recorded %d bytes, BLAKE3 %x", ErrCorrupt, got.Size, got.BLAKE3, want.Size, want.BLAKE3)
	}
	if ref.trailed() {
		if err := writeAll(w.file, appendTrailer(nil, label, want)); err != nil {
			return nil, s.writeError("write blob", err)
		}
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	return &Replacement{s: s, id: id, from: w.id}, nil
}

// copyUntil copies all of src, or until ctx ends.
func copyUntil(ctx context.Context, dst io.Writer, src io.Reader) error {
	buffer := make([]byte, verifyBuffer)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(src, buffer)
		if _, err := dst.Write(buffer[:n]); err != nil {
			return err
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// finish makes the bytes of a file in incoming/ durable, and closes it. On error the file is gone.
func (w *Writer) finish() error {
	w.ended = true
	w.release()
	<-w.marked // the name there need not last
	err := w.file.Sync()
	if closeErr := w.file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		w.s.discardIncoming(w.id)
		return w.s.fail("sync blob", err)
	}
	return nil
}

// Commit gives the new file the name of the blob, in one step: after a crash the blob has one file or the other. The caller must know that
// the blob is still wanted, and not remove it at the same time. When it returns nil, the name is durable. Readers that have the old
// file open go on reading that. The checksums of the blob stay as they are: Verify looks at them.
func (r *Replacement) Commit() error {
	if r.done {
		return errEnded
	}
	r.done = true
	if err := r.s.fs.Rename(r.s.incomingPath(r.from), r.s.blobPath(r.id)); err != nil {
		r.s.discardIncoming(r.from)
		return r.s.changeError("replace blob", err)
	}
	return r.s.shards[r.id.shard()].wait()
}

// Discard removes the new file. After Commit it does nothing, so that it can be deferred.
func (r *Replacement) Discard() {
	if !r.done {
		r.done = true
		r.s.discardIncoming(r.from)
	}
}

// appendTrailer appends the trailer of a file of format 1, which is written only where such a file is replaced.
func appendTrailer(b, label []byte, info Info) []byte {
	start := len(b)
	b = append(b, label...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(label)))
	b = binary.LittleEndian.AppendUint64(b, uint64(info.Size))
	b = append(b, info.BLAKE3[:]...)
	b = binary.LittleEndian.AppendUint16(b, format1)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, magic...)
}
