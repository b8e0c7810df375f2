package datadir

import (
	"io/fs"
	"syscall"
)

// deviceOf is the number of the device that a file lies on.
func deviceOf(info fs.FileInfo) (device uint64, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(st.Dev), true
}

// SameDevice tells whether two files lie on one device, as far as the system says.
func SameDevice(a, b fs.FileInfo) bool {
	one, ok := deviceOf(a)
	other, both := deviceOf(b)
	return ok && both && one == other
}
