package blobstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"packhouse/blobstore/vfs"
)

// sumsSuffix follows the name of a blob in that of its checksums.
const sumsSuffix = ".sums"

// writeSums is what was attempted when an error occurs.
const writeSums = "write checksums of a blob"

func (s *Store) sumsPath(id blobID) string { return s.blobPath(id) + sumsSuffix }

// newSumsPath is where checksums are written before they replace those that are there.
func (s *Store) newSumsPath(id blobID) string { return s.incomingPath(id) + sumsSuffix }

// openSums opens the checksums of a blob. Errors: fs.ErrNotExist, errSums, ErrNewer, else of the opening.
func (s *Store) openSums(id blobID) (*sumsReader, error) {
	file, err := s.fs.Open(s.sumsPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, openError("open checksums of a blob", id, err)
	}
	head := make([]byte, sumsHead)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = file.Close()
		return nil, fmt.Errorf("%w: %v", errSums, vfs.WithoutPath(err))
	}
	return newSumsReader(head[:n], file, file)
}

// createSums writes the checksums of a blob that has its name in the shard, and a marker in incoming/. What is there under that name
// already is not a blob's. The file is open, and nothing is synced.
func (s *Store) createSums(id blobID, sums []byte) (vfs.File, error) {
	file, err := s.fs.Create(s.sumsPath(id))
	if errors.Is(err, fs.ErrExist) {
		if err := s.fs.Remove(s.sumsPath(id)); err != nil {
			return nil, s.changeError(writeSums, err)
		}
		file, err = s.fs.Create(s.sumsPath(id))
	}
	if err != nil {
		return nil, s.changeError(writeSums, err)
	}
	if err := writeAll(file, sums); err != nil {
		_ = file.Close()
		return nil, s.writeError(writeSums, err)
	}
	return file, nil
}

// replaceSums puts checksums in the place of those that a blob has, if any: in one step, so that a reader has the old ones or the new
// ones. It does nothing if the blob is gone, or if somebody else does it at the moment. That the new ones have their name is not durable.
func (s *Store) replaceSums(id blobID, sums []byte) error {
	if err := s.ready(); err != nil {
		return err
	}
	file, err := s.fs.Create(s.newSumsPath(id))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return s.changeError(writeSums, err)
	}
	if err = writeAll(file, sums); err != nil {
		_ = file.Close()
		err = s.writeError(writeSums, err)
	} else if err = s.syncSums(file); err == nil {
		err = s.swapSums(id)
	}
	if err != nil {
		_ = s.fs.Remove(s.newSumsPath(id)) // else the next Sweep does
	}
	return err
}

// syncSums makes the bytes of a file of checksums durable, and closes it in any case.
func (s *Store) syncSums(file vfs.File) error {
	err := file.Sync()
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return s.fail(writeSums, err)
	}
	return nil
}

// swapSums gives new checksums their name, unless the blob was removed meanwhile: nobody would remove them then.
func (s *Store) swapSums(id blobID) error {
	mu := &s.removing[id.shard()]
	mu.Lock()
	defer mu.Unlock()
	there, err := s.there(s.blobPath(id), writeSums)
	if err != nil || !there {
		return errors.Join(err, s.fs.Remove(s.newSumsPath(id)))
	}
	if err := s.fs.Rename(s.newSumsPath(id), s.sumsPath(id)); err != nil {
		return s.changeError(writeSums, err)
	}
	return nil
}

// writeAll does not let a short write pass.
func writeAll(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// writeError is for a write that failed: lack of space fails one blob, anything else the store.
func (s *Store) writeError(op string, err error) error {
	if vfs.NoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap(op, err))
	}
	return s.fail(op, err)
}
