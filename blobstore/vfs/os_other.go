//go:build unix && !linux

package vfs

import "golang.org/x/sys/unix"

// blockUnit is the bytes that the counts of st are in.
func blockUnit(st *unix.Statfs_t) int64 { return int64(st.Bsize) }
