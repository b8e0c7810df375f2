package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// smallMap is the least memory mapping, in bytes: more than what bbolt lets a file grow at once.
const smallMap = 64 << 20

// hugeMap is how much address space an open index takes: when the file grows
// beyond it, the writer waits for all readers and new readers for the writer, while it is mapped
// anew. 16 GiB is some 30 million items; it costs no memory, and a process can have 8,000 of them.
func hugeMap() int {
	size := uint64(1 << 34)
	return max(int(size), smallMap) // where an int has 32 bits, the first is 0
}

// openFile locks, checks and opens an existing file, which bbolt by itself would make, and fill an empty one. bad is what is wrong
// with it and can be lived with.
func (x *Index) openFile(path string, mapSize int) (bad, err error) {
	file, info, err := lockFile(path, x.opts.ReadOnly)
	if err != nil {
		return nil, err
	}
	size := info.Size()
	x.file, x.broken = file, true // until bbolt has it
	x.opened.Store(&openedFile{path: path, info: info})
	m, bad, err := readMetas(file, size)
	if err == nil {
		c := structureCheck{meta: m, ctx: context.Background(), file: file, problem: func(err error) error { return err }}
		c.leaves = m.freelist == noFreelist // bbolt will read all pages
		err = c.run()
	}
	if err != nil {
		return nil, errors.Join(corrupt(err), x.closeFile(true))
	}
	x.mapped = mapSizeOf(max(mapSize, int(size)))
	_, err = attempt(func() (err error) {
		x.db, err = bolt.Open(path, 0o600, &bolt.Options{
			OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return file, nil },
			Timeout:         lockWait, // it is ours already
			FreelistType:    bolt.FreelistMapType,
			InitialMmapSize: x.mapped,
			NoStatistics:    true,
			ReadOnly:        x.opts.ReadOnly,
		})
		return err
	})
	if err != nil {
		return nil, errors.Join(err, x.closeFile(true))
	}
	x.broken = false
	if x.opts.Database != nil && !x.opts.ReadOnly {
		if err := x.opts.Database(x.db); err != nil {
			return nil, errors.Join(err, x.closeFile(true))
		}
	}
	x.limitGrowth()
	return bad, nil
}

// corrupt makes an error of a read into one of damage: whether its bytes are wrong or the disk does not give them, the
// file is of no use.
func corrupt(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// lockFile opens the file and takes its lock: for reading alone a shared one, which needs no right to write. A file that lost its name
// meanwhile is not taken, but the one that has it now, which its holder may have put there (Rewrite).
func lockFile(path string, readOnly bool) (file *os.File, opened os.FileInfo, err error) {
	for begin := time.Now(); ; {
		file, opened, err = lockNamed(path, readOnly)
		if !errors.Is(err, errReplaced) || time.Since(begin) > 2*lockWait {
			return file, opened, err
		}
	}
}

// errReplaced is of a file that lost its name to another.
var errReplaced = fmt.Errorf("%w: the index was replaced meanwhile", ErrLocked)

// lockNamed is lockFile for the file that has the name now. errReplaced: not any more.
func lockNamed(path string, readOnly bool) (file *os.File, opened os.FileInfo, err error) {
	flag, how := os.O_RDWR, unix.LOCK_EX
	if readOnly {
		flag, how = os.O_RDONLY, unix.LOCK_SH
	}
	file, err = os.OpenFile(path, flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: no index file", ErrNotFound)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := lock(file, how); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	opened, err = file.Stat()
	switch {
	case err != nil:
	case opened.Size() == 0:
		err = fmt.Errorf("%w: the file is empty", ErrCorrupt)
	default:
		// While we waited for the lock its holder may have taken the file away: then the
		// name is nobody's, or another file's.
		err = (&openedFile{path: path, info: opened}).check()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = fmt.Errorf("%w: the index was removed meanwhile", ErrNotFound)
		case err != nil:
			err = errReplaced
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, opened, nil
}

// lock takes the lock that bbolt takes too.
func lock(file *os.File, how int) error {
	for begin := time.Now(); ; time.Sleep(lockStep) {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock the index: %w", err)
		case time.Since(begin) > lockWait-lockStep:
			return fmt.Errorf("%w: the index is open elsewhere, perhaps by another process", ErrLocked)
		}
	}
}

// closeFile gives the file back, lock and all. Of a bbolt that is broken nothing is asked: the lock, the file and its mapping,
// if nobody reads it any more, are given back without it.
func (x *Index) closeFile(unmap bool) error {
	if !x.broken && unmap {
		intact, err := attempt(x.db.Close)
		if intact {
			return err
		}
	}
	x.broken = true
	if unmap && x.db != nil {
		// It fails where the mapping has another size, or is none: then it stays until the process ends.
		_, _ = attempt(func() error { return unix.Munmap(x.mapping(x.mapped)) })
	}
	err := unix.Flock(int(x.file.Fd()), unix.LOCK_UN)
	if err := x.file.Close(); errors.Is(err, fs.ErrClosed) { // by bbolt
		return nil
	} else if err != nil {
		return err
	}
	return err
}

// mapSizeOf is the size of the mapping that bbolt makes for so many bytes. Source: bbolt's db.go, mmapSize.
func mapSizeOf(n int) int {
	const step = 1 << 30
	for size := 1 << 15; size <= step; size *= 2 {
		if n <= size {
			return size
		}
	}
	return (n + step - 1) / step * step
}

// limitGrowth has bbolt refuse what does not fit into the mapping (errMapFull), instead of waiting for our snapshots to end.
func (x *Index) limitGrowth() { x.db.MaxSize = x.mapped + x.db.AllocSize - 1 }

// errMapFull is a commit that needs a larger mapping. It has changed nothing.
var errMapFull = bolterrors.ErrMaxSizeReached
