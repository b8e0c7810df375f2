package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"packhouse/blobstore/vfs"
)

const (
	// maxTries bounds the search for an ID nobody has. With 80 random bits the
	// first is free; more than a few that are not mean broken randomness.
	maxTries = 8

	// writebackStep is how many bytes of a body gather before they are sent to the disk: so the
	// sync of a long one finds little left to write, and dirty memory stays small.
	writebackStep = 8 << 20
)

// Create starts a blob of about size bytes; negative: nobody knows. Up to Options.Small it stays in memory, until Small or Commit is
// called or more bytes come. The writer must be ended by Commit, Small or Abort.
// Errors: ErrFailed, ErrClosed, ErrNoSpace, ctx.Err(), else I/O.
func (s *Store) Create(ctx context.Context, size int64) (*Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	w := &Writer{s: s, hasher: s.hashers.Get().(*blake3.Hasher)}
	if s.small > 0 && size <= s.small {
		w.small = make([]byte, 0, max(size, 0))
		return w, nil
	}
	if err := w.createFile(); err != nil {
		w.release()
		return nil, err
	}
	return w, nil
}

// createFile begins the file of a blob. Its name in incoming/ becomes durable meanwhile.
func (w *Writer) createFile() error {
	s := w.s
	s.created.Store(true)
	for range maxTries {
		id, err := s.newID()
		if err != nil {
			return err
		}
		file, err := s.fs.Create(s.incomingPath(id))
		if err == nil {
			w.id, w.file = id, file
			w.marked = make(chan error, 1)
			go func() { w.marked <- s.incoming.wait() }()
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return &DirError{IncomingDir, vfs.WithoutPath(err)}
		}
		if !errors.Is(err, fs.ErrExist) {
			return s.changeError("create blob", err)
		}
	}
	return errNoID
}

var errNoID = fmt.Errorf("create blob: none of %d random IDs was free", maxTries)

// changeError is for a change to the file system, not a sync, that failed: lack of space fails
// one blob, a dead disk the store.
func (s *Store) changeError(op string, err error) error {
	switch {
	case vfs.NoSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap(op, err))
	case vfs.DiskGone(err):
		return s.fail(op, err)
	}
	return wrap(op, err)
}

// Writer receives the bytes of one blob. Not safe for concurrent use.
type Writer struct {
	s      *Store
	small  []byte // the blob, while there is no file
	id     blobID
	file   vfs.File   // nil: it is small
	marked chan error // receives the result of the sync of incoming/ that makes the file's name durable; nil: no file
	hasher *blake3.Hasher
	sums   blockSummer
	size   int64
	sent   int64 // bytes whose writeback has begun
	err    error // first error of Write; Commit refuses with it
	ended  bool
}

// Write appends to the blob and hashes. After an error the blob can only be aborted.
// Errors: ErrNoSpace (the store stays usable), ErrFailed.
func (w *Writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errEnded
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.gather(p)
	w.hasher.Write(p[:n]) // never fails
	w.size += int64(n)
	if err != nil {
		w.err = err
		return n, err
	}
	if w.size-w.sent >= writebackStep {
		w.startWriteback()
	}
	return n, nil
}

// gather keeps a small blob in memory, and writes a larger one to its file.
func (w *Writer) gather(p []byte) (int, error) {
	if w.file != nil {
		return w.write(p)
	}
	if int64(len(w.small)+len(p)) <= w.s.small {
		w.small = append(w.small, p...)
		return len(p), nil
	}
	if err := w.toFile(); err != nil {
		return 0, err
	}
	return w.write(p)
}

// toFile writes what is in memory to a file.
func (w *Writer) toFile() error {
	if err := w.createFile(); err != nil {
		return err
	}
	begun := w.small
	w.small = nil
	_, err := w.write(begun)
	return err
}

// Small ends the writer of a blob that is to lie in the log: ok is false where it is to be a file, and nothing has changed. The bytes are
// the caller's; nothing of them is durable.
func (w *Writer) Small() (blob []byte, info Info, ok bool) {
	if w.ended || w.err != nil || w.file != nil {
		return nil, Info{}, false
	}
	w.ended = true
	info.Size = w.size
	w.hasher.Sum(info.BLAKE3[:0])
	w.release()
	return w.small, info, true
}

// write writes to the file.
func (w *Writer) write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	_, _ = w.sums.Write(p[:n])
	if err != nil {
		err = w.s.writeError("write blob", err)
	}
	return n, err
}

func (w *Writer) startWriteback() {
	if file, ok := w.file.(vfs.WritebackStarter); ok {
		// A hint: what goes wrong with it, the sync will tell.
		_ = file.StartWriteback(w.sent, w.size-w.sent)
	}
	w.sent = w.size
}

// Size is the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Commit makes the blob durable: bytes, its name in incoming/, its name in its shard, and its checksums with label (at most MaxLabel
// bytes, opaque; a rebuild of the index reads it back).
// When err is nil all of that is on stable storage; the blob stays marked as unsettled (its incoming/
// name remains) until Settle or Remove, and Sweep decides about it after a crash.
// On error nothing remains, or what remains is unsettled and swept at the next start (when the
// store failed between the names). The end of ctx is looked at before the first step only.
// Errors: as Write and Create. A sync that failed for lack of space is both ErrFailed and ErrNoSpace.
func (w *Writer) Commit(ctx context.Context, label []byte) (Ref, Info, error) {
	if w.ended {
		return "", Info{}, errEnded
	}
	err := w.mayCommit(ctx, label)
	if err == nil && w.file == nil {
		err = w.toFile()
	}
	if err != nil {
		w.Abort()
		return "", Info{}, err
	}
	w.ended = true
	info := Info{Size: w.size}
	w.hasher.Sum(info.BLAKE3[:0])
	w.release()
	sums := appendSums(nil, header{info: info, label: label}, w.sums.all())
	if err := <-w.marked; err != nil {
		_ = w.file.Close() // it is unlinked next
		w.s.discardIncoming(w.id)
		return "", Info{}, err
	}
	if err := w.publish(sums); err != nil {
		return "", Info{}, err
	}
	return w.id.ref(), info, nil
}

func (w *Writer) mayCommit(ctx context.Context, label []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(label) > MaxLabel {
		return fmt.Errorf("commit blob: label of %d bytes, at most %d fit", len(label), MaxLabel)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.s.ready()
}

// Abort discards the blob. It may be called after Commit, and then has no effect. A file that cannot be unlinked is removed by the
// Sweep of the next start.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.release()
	if w.file == nil {
		return
	}
	_ = w.file.Close()
	<-w.marked // no sync outlives its writer; what it says does not matter any more
	w.s.discardIncoming(w.id)
}

func (w *Writer) release() {
	w.hasher.Reset()
	w.s.hashers.Put(w.hasher)
	w.hasher = nil
}

// publish gives incoming/<id>, a durable name by now, its names in the shard, and makes them and all bytes durable, in the order that
// doc.go demands. The blob may get another ID, if its own was taken. The file is closed in any case.
// On error nothing is left but what Sweep finds.
func (w *Writer) publish(sums []byte) error {
	if err := w.linkFree(); err != nil {
		_ = w.file.Close()
		return err
	}
	err := w.syncAll(sums)
	if closeErr := w.file.Close(); err == nil && closeErr != nil {
		err = w.s.fail("close blob", closeErr)
	}
	if err != nil {
		w.s.discard(w.id)
	}
	return err
}

// linkFree links the file to the shard, under another ID if need be. On error it has no name there.
func (w *Writer) linkFree() error {
	s := w.s
	for range maxTries {
		err := s.link(w.id)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			s.discard(w.id)
			return err
		}
		if w.id, err = s.renameIncoming(w.id); err != nil {
			return err
		}
		if err := s.incoming.wait(); err != nil {
			s.discardIncoming(w.id)
			return err
		}
	}
	s.discardIncoming(w.id)
	return errNoID
}

// syncAll writes the checksums, and makes durable the bytes of both files and their names in the shard. None of the three syncs needs
// another, so they run at once: the disk flushes for all.
func (w *Writer) syncAll(sums []byte) error {
	file, err := w.s.createSums(w.id, sums)
	if err != nil {
		return err
	}
	var others errgroup.Group
	others.Go(w.s.shards[w.id.shard()].wait)
	others.Go(func() error { return w.s.syncSums(file) })
	if err := w.file.Sync(); err != nil {
		_ = others.Wait() // the first reason is the one to tell
		return w.s.fail("sync blob", err)
	}
	return others.Wait()
}

// link makes the name in the shard. fs.ErrExist means that it is another blob's.
func (s *Store) link(id blobID) error {
	err := s.fs.Link(s.incomingPath(id), s.blobPath(id))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		// A network file system that repeats a request finds its own link there.
		if s.sameFile(s.incomingPath(id), s.blobPath(id)) {
			return nil
		}
		return fs.ErrExist
	case vfs.NoSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, wrap("link blob", err))
	case errors.Is(err, fs.ErrPermission):
		return &DirError{BlobsDir + "/" + shardName(id.shard()), vfs.WithoutPath(err)} // nothing was done; the disk is not to blame
	case errors.Is(err, fs.ErrNotExist):
		// Somebody has removed a directory; or the disk has lost a file.
		for _, dir := range []string{incomingDir(s.dir), s.shardDir(id.shard())} {
			if _, statErr := s.fs.Stat(dir); errors.Is(statErr, fs.ErrNotExist) {
				return &DirError{strings.TrimPrefix(dir, s.dir+"/"), vfs.WithoutPath(err)}
			}
		}
	}
	return s.fail("link blob", err)
}

func (s *Store) sameFile(a, b string) bool {
	infoA, errA := s.fs.Stat(a)
	infoB, errB := s.fs.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// renameIncoming gives a finished file another free ID. On error the file is gone.
func (s *Store) renameIncoming(old blobID) (blobID, error) {
	for range maxTries {
		id, err := s.newID()
		if err == nil {
			err = s.fs.Link(s.incomingPath(old), s.incomingPath(id))
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		s.discardIncoming(old)
		if err != nil {
			s.discardIncoming(id)
			return id, s.changeError("rename blob", err)
		}
		return id, nil
	}
	s.discardIncoming(old)
	return old, errNoID
}

// discardIncoming unlinks a file that has no name in a shard.
func (s *Store) discardIncoming(id blobID) {
	_ = s.fs.Remove(s.incomingPath(id)) // else the next Sweep does
}

// discard takes back a blob that may have its name in the shard. The marker goes
// last, and only when the name is gone for good: in a failed store that
// cannot be known, so there it stays for the next Sweep.
func (s *Store) discard(id blobID) {
	_ = s.unlink([]blobID{id})
}

// BLAKE3 is the digest of what was written so far; it must not be called after Commit or Abort.
func (w *Writer) BLAKE3() [32]byte {
	var sum [32]byte
	w.hasher.Sum(sum[:0])
	return sum
}
