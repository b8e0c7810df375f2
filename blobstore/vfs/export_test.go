package vfs

import "golang.org/x/sys/unix"

// Stepwise opens a directory as on a kernel without openat2, and tells whether that works.
func Stepwise(name string) error {
	fd, err := stepwise(unix.AT_FDCWD, "/", name)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
