package repotest

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
	"packhouse/repo"
)

// WaitFor waits until something is so, at most a minute.
func WaitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited a minute for %s", what)
}

// BlobPaths are the files with the bytes of blobs in a repository's directory, sorted.
func BlobPaths(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "blobs", "*", strings.Repeat("?", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// BlobFiles counts the files of blobs in a repository's directory, and of unfinished uploads.
func BlobFiles(t testing.TB, dir string) (placed, incoming int) {
	t.Helper()
	count := func(pattern string) int {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	return len(BlobPaths(t, dir)), count("incoming/*")
}

// Contents reads all items of a repository.
func Contents(t testing.TB, a *repo.Access) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range List(t, a, "", true) {
		body, err := Get(a, key)
		if err != nil {
			t.Errorf("read %q: %v", key, err)
		}
		all[key] = body
	}
	return all
}

// Trash lists what was removed and can be restored.
func Trash(t testing.TB, r *repo.Repository) (rows []index.Removed) {
	t.Helper()
	if err := r.Trash(func(row index.Removed) error { rows = append(rows, row); return nil }); err != nil {
		t.Fatal(err)
	}
	return rows
}

// DamageIndex makes the row of item packs/a unreadable.
func DamageIndex(t testing.TB, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("items")).Put([]byte("packs\x00a"), []byte("bit rot"))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
