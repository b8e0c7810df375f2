package vfs

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

var _ WritebackStarter = osFile{}

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
