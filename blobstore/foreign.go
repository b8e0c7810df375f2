package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"packhouse/blobstore/vfs"
)

// A foreign file was made by another program, and becomes a blob as it is: as a second name of its inode, or as a copy. Who takes
// files in keeps a durable list of the refs that it draws for them, before the first is used; so these blobs have no marker in
// incoming/, and after a crash the list says which files in the shards are whose. Nothing is durable before SyncForeign.
//
// The inode of a link belongs to the other program, too. A blob's file is never written, and neither its mode, nor its owner, nor
// its times are changed: checksums lie beside it, Replace gives the name to another file, and RemoveAll removes the name.

// ErrOtherFileSystem means that a file cannot be linked, because it lies on another file system, or has as many names as a file can have.
var ErrOtherFileSystem = errors.New("the file is on another file system")

// NewRef draws the ref of a blob that will be taken in under it. It is nobody else's.
func (s *Store) NewRef() (Ref, error) {
	id, err := s.newID()
	return id.ref(), err
}

// InFile is the ref of the same ID to a file of format 2. That of Walk is a guess where a file without checksums ends as one of format 1 does.
func (r Ref) InFile() Ref {
	id, err := r.id()
	if err != nil {
		return r
	}
	return id.ref()
}

// LinkForeign gives the file called name in dir, a regular one, a second name as the blob ref. It may be repeated. Another file under that
// ref, which may have been taken in from the same name before, is removed first. It returns what the file is then. Errors: ErrOtherFileSystem, fs.ErrNotExist,
// fs.ErrPermission when the kernel refuses to link a file of another user, ErrNoSpace, else I/O.
func (s *Store) LinkForeign(ref Ref, dir vfs.Tree, name string) (os.FileInfo, error) {
	id, err := ref.id()
	if err == nil {
		err = s.ready()
	}
	if err != nil {
		return nil, err
	}
	path := s.blobPath(id)
	err = dir.Link(name, path)
	if errors.Is(err, fs.ErrExist) {
		if there, err := s.fs.Stat(path); err == nil && isFile(dir, name, there) {
			return there, nil
		}
		if err = s.RemoveForeign(ref); err == nil {
			err = dir.Link(name, path)
		}
	}
	if vfs.OtherFileSystem(err) || errors.Is(err, syscall.EMLINK) { // of names, a file of ext4 may have 65,000
		return nil, ErrOtherFileSystem
	}
	if err != nil {
		return nil, s.changeError("link", err)
	}
	info, err := s.fs.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.Join(fmt.Errorf("link: not a regular file: %s", info.Mode().Type()), s.fs.Remove(path))
	}
	return info, err
}

// isFile tells whether a name in dir is that of a file.
func isFile(dir vfs.Tree, name string, file fs.FileInfo) bool {
	info, err := dir.Stat(name)
	if err != nil {
		return false
	}
	a, ok := info.Sys().(*syscall.Stat_t)
	b, both := file.Sys().(*syscall.Stat_t)
	return ok && both && a.Dev == b.Dev && a.Ino == b.Ino
}

// CopyForeign makes the bytes of the file called name in dir the blob ref: as a clone that shares its blocks, where the file system can, and
// then it is as one that was linked, or as a copy with checksums and the label. A blob that is there already stays, if it has size bytes. The
// file must have size bytes. Errors: ErrCorrupt if it has not, fs.ErrNotExist, fs.ErrPermission, ctx.Err(), ErrNoSpace, else I/O.
func (s *Store) CopyForeign(ctx context.Context, ref Ref, dir vfs.Tree, name string, size int64, label []byte) error {
	id, err := ref.id()
	if err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	if there, err := s.fs.Stat(s.blobPath(id)); err == nil && there.Size() == size {
		return nil // it got its name when all of it was on the disk
	}
	if err := s.RemoveForeign(ref); err != nil {
		return err
	}
	source, err := dir.Open(name)
	if err != nil {
		return vfs.WithoutPath(err)
	}
	defer source.Close() // it is only read
	if err := s.removeIncoming(id); err != nil {
		return err
	}
	target, err := s.fs.Create(s.incomingPath(id))
	if err != nil {
		return s.changeError("copy", err)
	}
	defer s.discardIncoming(id)
	sums, err := s.fill(ctx, target, source, size, label)
	if err == nil {
		if err = target.Sync(); err != nil {
			err = s.fail("copy", err)
		}
	}
	if err = errors.Join(err, target.Close()); err != nil {
		return err
	}
	if err := s.fs.Link(s.incomingPath(id), s.blobPath(id)); err != nil {
		return s.changeError("copy", err)
	}
	if sums == nil {
		return nil
	}
	file, err := s.createSums(id, sums)
	if err != nil {
		return err
	}
	return s.syncSums(file)
}

// fill gives target the bytes of source, size of them. sums are those of a copy, nil of a clone.
func (s *Store) fill(ctx context.Context, target, source vfs.File, size int64, label []byte) (sums []byte, err error) {
	if cloner, ok := target.(vfs.Cloner); ok && cloner.CloneOf(source) == nil {
		info, err := target.Stat()
		if err == nil && info.Size() != size {
			err = fmt.Errorf("%w: %d bytes, %d expected", ErrCorrupt, info.Size(), size)
		}
		return nil, err
	}
	hasher := s.hashers.Get().(*blake3.Hasher)
	defer func() {
		hasher.Reset()
		s.hashers.Put(hasher)
	}()
	var blocks blockSummer
	buffer := s.windows.Get().(*[]byte)
	defer s.windows.Put(buffer)
	h := header{label: label}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, readErr := source.Read(*buffer)
		part := (*buffer)[:n]
		if err := writeAll(target, part); err != nil {
			return nil, s.writeError("copy", err)
		}
		hasher.Write(part) // never fails
		_, _ = blocks.Write(part)
		h.info.Size += int64(n)
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return nil, vfs.WithoutPath(readErr)
		}
	}
	if h.info.Size != size {
		return nil, fmt.Errorf("%w: %d bytes, %d expected", ErrCorrupt, h.info.Size, size)
	}
	hasher.Sum(h.info.BLAKE3[:0])
	return appendSums(nil, h, blocks.all()), nil
}

func (s *Store) removeIncoming(id blobID) error {
	if err := remove(s.fs.Remove, s.incomingPath(id)); err != nil {
		return s.changeError("copy", err)
	}
	return nil
}

// StatForeign tells what the file of a blob that was taken in is, also in a store of which a part is missing. dir is the store's. fs.ErrNotExist: it was
// not taken in, or was taken back.
func StatForeign(fsys vfs.FS, dir string, ref Ref) (os.FileInfo, error) {
	id, err := ref.id()
	if err != nil {
		return nil, err
	}
	s := Store{dir: dir}
	info, err := fsys.Stat(s.blobPath(id))
	return info, vfs.WithoutPath(err)
}

// RemoveForeign takes a blob back that was taken in and that nothing refers to. It may be missing.
func (s *Store) RemoveForeign(ref Ref) error {
	id, err := ref.id()
	if err != nil {
		return err
	}
	if err := s.unlinkShard(id); err != nil {
		return s.changeError("remove", err)
	}
	return nil
}

// SyncForeign makes durable all that was taken in and taken back until now.
func (s *Store) SyncForeign() error {
	var syncs errgroup.Group
	syncs.SetLimit(parallelSyncs)
	for shard := range s.shards {
		syncs.Go(s.shards[shard].wait)
	}
	return syncs.Wait()
}
