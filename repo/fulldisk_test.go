package repo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// smallDisk mounts a file system in memory with that many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("a small file system cannot be mounted here (are we root?): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullDisk fills a real file system. Uploads are refused while the reserve is still free, and with what is left items can
// be deleted, locks taken and packs compacted; then there is space again.
func TestFullDisk(t *testing.T) {
	const mib = 1 << 20
	for name, reserve := range map[string]int64{"reserve": 16 * mib, "none": 0} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t, func(o *datadir.Options) {
				o.Dir = smallDisk(t, 96*mib)
				o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: reserve} }
			})
			r := a.Repository()
			random := rand.New(rand.NewPCG(1, 2))
			body := strings.Repeat("x", mib)
			stored := map[string]string{}
			for i := 0; ; i++ {
				key, size := fmt.Sprintf("packs/%d", i), 1+random.IntN(mib)
				_, err := put(a, key, body[:size])
				if errors.Is(err, repo.ErrNoSpace) {
					break
				}
				if err != nil || i > 10_000 {
					t.Fatalf("put %d: %v", i, err)
				}
				stored[key] = body[:size]
			}
			if h := r.Health(); h.ReadOnly {
				t.Fatalf("a full disk made the repository read-only: %s", h.Reason)
			}
			free, _, err := r.Space()
			if err != nil || free < reserve {
				t.Errorf("%d bytes free, want the reserve of %d: %v", free, reserve, err)
			}
			if reserve > 0 {
				mustPut(t, a, "locks/mine", "held")
				// Compacting needs its output beside the sources; the reserve is for that, too.
				if err := replace(a, []string{"packs/0", "packs/1"}, "packs/new", body); err != nil {
					t.Errorf("compact: %v", err)
				}
			}
			for i := range 10 {
				if err := a.Delete(ctx, fmt.Sprintf("packs/%d", i+2)); err != nil {
					t.Fatalf("delete on a full disk: %v", err)
				}
				delete(stored, fmt.Sprintf("packs/%d", i+2))
			}
			waitFor(t, "the bytes to be free", func() bool { return r.Usage().TrashItems == 0 })
			mustPut(t, a, "packs/again", "there is space")
			for key, want := range stored {
				if got, err := get(a, key); (err != nil || got != want) && key != "packs/0" && key != "packs/1" {
					t.Errorf("%s: got %d bytes, %v", key, len(got), err)
				}
			}
		})
	}
}

// TestFullDiskOfSmallItems: who is told that the disk is full, and removes items that lie in the log, can store others soon
// after that, in any repository of the disk.
func TestFullDiskOfSmallItems(t *testing.T) {
	const mib = 1 << 20
	s := newSet(t, func(o *datadir.Options) {
		inSegments(o)
		o.Dir = smallDisk(t, 48*mib)
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 4 * mib} }
	})
	a, other := create(t, s, "r").As(repo.Principal{}), create(t, s, "other").As(repo.Principal{})
	body := strings.Repeat("x", 64<<10)
	n := 0
	for ; ; n++ {
		_, err := put(a, fmt.Sprintf("packs/%d", n), body)
		if errors.Is(err, repo.ErrNoSpace) {
			break
		}
		if err != nil || n > 10_000 {
			t.Fatalf("put %d: %v", n, err)
		}
	}
	for i := range n {
		if i%8 == 0 {
			continue
		}
		if err := a.Delete(ctx, fmt.Sprintf("packs/%d", i)); err != nil {
			t.Fatalf("delete on a full disk: %v", err)
		}
	}
	waitFor(t, "space for what is stored then", func() bool {
		_, err := put(other, "packs/again", body)
		return err == nil
	})
	for i := 0; i < n; i += 8 {
		wantContent(t, a, fmt.Sprintf("packs/%d", i), body)
	}
}
