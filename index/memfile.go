package index

import (
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile makes a file that has no name and takes no disk.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("packhouse-index", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("packhouse-index", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "packhouse-index"), nil
}
