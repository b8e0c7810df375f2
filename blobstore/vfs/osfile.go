package vfs

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

var (
	_ WritebackStarter = osFile{}
	_ Adviser          = osFile{}
	_ Allocator        = osFile{}
)

// Sync is fdatasync: the size is made durable with the bytes, the time of
// modification is not. Only an interrupted call is repeated: after any other
// error the kernel may have dropped the bytes and would report success next time.
func (f osFile) Sync() error {
	return f.control("fdatasync", unix.Fdatasync)
}

// StartWriteback is sync_file_range without waiting for what it starts.
func (f osFile) StartWriteback(off, n int64) error {
	return f.control("sync_file_range", func(fd int) error {
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// Allocate is fallocate.
func (f osFile) Allocate(off, n int64) error {
	err := f.control("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, off, n) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: errors.ErrUnsupported}
	}
	return err
}

// CloneOf is ioctl FICLONE.
func (f osFile) CloneOf(source File) error {
	other, ok := source.(OSFiler)
	if !ok {
		return errors.ErrUnsupported
	}
	return osFile{other.OSFile()}.control("clone", func(from int) error {
		return f.control("clone", func(to int) error { return unix.IoctlFileClone(to, from) })
	})
}

// adviseStep is what the kernel reads ahead by one hint on every disk: more than max_sectors_kb, often 128 and
// seldom less, it leaves away.
const adviseStep = 128 << 10

// WillNeed is fadvise.
func (f osFile) WillNeed(off, n int64) error {
	return f.control("fadvise", func(fd int) error {
		for end := off + n; off < end; off += adviseStep {
			if err := unix.Fadvise(fd, off, min(adviseStep, end-off), unix.FADV_WILLNEED); err != nil {
				return err
			}
		}
		return nil
	})
}

// Cached is cachestat, of Linux 6.5.
func (f osFile) Cached() (bool, error) {
	var stat unix.Cachestat_t
	err := f.control("cachestat", func(fd int) error {
		return unix.Cachestat(uint(fd), &unix.CachestatRange{}, &stat, 0)
	})
	return stat.Cache > 0, err
}

// DontNeed is fadvise.
func (f osFile) DontNeed(off, n int64) error {
	return f.control("fadvise", func(fd int) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) })
}

// control calls fn with the descriptor, again while it is interrupted.
func (f osFile) control(op string, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var fnErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if fnErr = fn(int(fd)); fnErr != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = fnErr
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: err}
	}
	return nil
}

// blockUnit is the bytes that the counts of st are in.
func blockUnit(st *unix.Statfs_t) int64 {
	if st.Frsize > 0 {
		return int64(st.Frsize)
	}
	return int64(st.Bsize)
}

// readOnly tells of a mount, or of a file system that is read-only as a whole.
func readOnly(st *unix.Statfs_t) bool { return st.Flags&unix.ST_RDONLY != 0 }
