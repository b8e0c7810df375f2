package index_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/index"
)

// TestLimitedAddressSpace: where there is not enough address space for a large mapping, there is a small one.
func TestLimitedAddressSpace(t *testing.T) {
	inChild(t, func(say func(string, ...any)) {
		path := filepath.Join(t.TempDir(), "index.db")
		if err := index.Create(path, nil); err != nil {
			t.Fatal(err)
		}
		statm, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		var pages uint64
		if _, err := fmt.Sscan(string(statm), &pages); err != nil {
			t.Fatal(err)
		}
		limit := pages*uint64(os.Getpagesize()) + 4<<30
		say("limit of %d bytes", limit)
		if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			t.Fatal(err)
		}
		x := open(t, path, index.Options{})
		apply(t, x, put("a", 1))
		if x.Mapped() > 1<<30 {
			t.Errorf("%d bytes are mapped", x.Mapped())
		}
	})
}
