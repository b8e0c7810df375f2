package repotest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"packhouse/repo"
)

// ChangePages lets fn change the pages of an index file in place, and returns what writes them back as they were. fn tells whether
// it changed the page.
func ChangePages(t testing.TB, path string, fn func(n int, page []byte) bool) (restore func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size, changed := os.Getpagesize(), []int{}
	for n := range len(sound) / size {
		page := bytes.Clone(sound[n*size : (n+1)*size])
		if fn(n, page) {
			changed = append(changed, n)
			if _, err := f.WriteAt(page, int64(n*size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(changed) == 0 {
		t.Fatal("no page was changed")
	}
	return func() {
		for _, n := range changed {
			if _, err := f.WriteAt(sound[n*size:(n+1)*size], int64(n*size)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ZeroPagesOf makes the pages unreadable that have some bytes, of this and of former versions.
func ZeroPagesOf(what string) func(int, []byte) bool {
	return func(_ int, page []byte) bool {
		has := bytes.Contains(page, []byte(what))
		if has {
			clear(page)
		}
		return has
	}
}

// Circle makes each branch its own child.
func Circle(n int, page []byte) bool {
	branch := page[8] == 1 && page[9] == 0
	if branch {
		for i := range int(binary.NativeEndian.Uint16(page[10:])) {
			binary.NativeEndian.PutUint64(page[16+16*i+8:], uint64(n))
		}
	}
	return branch
}

// Fill stores items whose rows take many pages.
func Fill(t testing.TB, a *repo.Access) {
	t.Helper()
	for i := range 60 {
		MustPut(t, a, fmt.Sprintf("packs/%02d%s", i, strings.Repeat("x", 60)), "content")
	}
}
