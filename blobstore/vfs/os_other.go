//go:build unix && !linux

package vfs

import "golang.org/x/sys/unix"

// blockUnit is the bytes that the counts of st are in.
func blockUnit(st *unix.Statfs_t) int64 { return int64(st.Bsize) }

// readOnly tells of a mount, or of a file system that is read-only as a whole.
func readOnly(st *unix.Statfs_t) bool { return st.Flags&unix.MNT_RDONLY != 0 }
