package index_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/internal/sampling"
)

// cutAnywhere calls fn with options of a disk that stops at its n-th call, for every n, and cuts the power then: all that was
// not synced is lost, or any part of it. fn works in dir, which prepare fills, and tells whether it succeeded; after looks at
// what is left.
func cutAnywhere(t *testing.T, prepare func(dir string), fn func(dir string, o index.Options) error, after func(t *testing.T, dir string, done bool)) {
	t.Helper()
	share := sampling.NewShare(t, 3)
	n := 1
	for hit := true; hit; n++ {
		for seed := range uint64(4) {
			if !share.Takes() {
				continue
			}
			t.Run(fmt.Sprintf("%d/%d", n, seed), func(t *testing.T) {
				dir := filepath.Dir(memoryPath(t))
				prepare(dir)
				disk := vfstest.NewLossy(t, dir)
				calls := vfstest.NewFailing(disk)
				calls.StopAt(n, vfstest.Before, syscall.EIO)
				err := fn(dir, index.Options{FS: calls, Database: vfstest.Bolt(t, calls)})
				if hit = calls.Hit(); !hit && err != nil {
					t.Fatalf("nothing failed, but: %v", err)
				}
				var random *rand.Rand // nil loses everything
				if seed > 0 {
					random = rand.New(rand.NewPCG(seed, uint64(n)))
				}
				if err := disk.Crash(random); err != nil {
					t.Fatal(err)
				}
				after(t, dir, err == nil)
			})
		}
	}
	if n < 10 {
		t.Errorf("only %d calls of the file system", n-1)
	}
}

// TestPowerFailsInCreate: there is no index, or a whole one, and that one if Create said so. It can be created again.
func TestPowerFailsInCreate(t *testing.T) {
	meta := map[string][]byte{"name": []byte("value")}
	create := func(dir string, o index.Options) error {
		return index.CreateWith(filepath.Join(dir, "index.db"), meta, o)
	}
	cutAnywhere(t, func(string) {}, create, func(t *testing.T, dir string, done bool) {
		path := filepath.Join(dir, "index.db")
		if err := index.Create(path, meta); err != nil && !errors.Is(err, index.ErrExists) || done && err == nil {
			t.Errorf("create again: %v; before: %v", err, done)
		}
		x := open(t, path, index.Options{})
		if value, err := x.Meta("name"); string(value) != "value" || err != nil {
			t.Errorf("meta: got %q, %v", value, err)
		}
		apply(t, x, put("a", 1))
	})
}

// TestPowerFailsInUpgrade: a file of an older format is upgraded, or will be with the next opening, and nothing is missing. What was
// stored since is there, if it was acknowledged.
func TestPowerFailsInUpgrade(t *testing.T) {
	for _, old := range oldFormats() {
		prepare := func(dir string) { old.writeTo(t, dir) }
		stored := false
		upgrade := func(dir string, o index.Options) error {
			stored = false
			x, err := index.Open(filepath.Join(dir, "index.db"), o)
			if err != nil {
				return err
			}
			_, err = x.Apply(background, putBytes("stored", []byte("since")))
			stored = err == nil
			return errors.Join(err, x.Close())
		}
		cutAnywhere(t, prepare, upgrade, func(t *testing.T, dir string, _ bool) {
			path := filepath.Join(dir, "index.db")
			x := mustOpen(t, path, index.Options{})
			if _, err := x.Get("stored"); err == nil {
				wantPayload(t, x, "stored", []byte("since"))
				apply(t, x, index.Delete{Key: "stored", TrashUntil: clock})
				apply(t, x, index.PurgeTrash{IDs: trashIDs(t, x, "stored")})
			} else if stored || !errors.Is(err, index.ErrNotFound) {
				t.Errorf("get: %v; acknowledged: %v", err, stored)
			}
			mustClose(t, x)
			checkGolden(t, path, old.group)
		})
	}
}
