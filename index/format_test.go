package index_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"packhouse/index"
)

// TestGoldenFile reads a whole file of each format there has been, as made by
// the program of its time; see flag golden.
func TestGoldenFile(t *testing.T) {
	t.Run("format 1", func(t *testing.T) { readGoldenFile(t, "testdata/format-1.db.gz", goldenGroup()) })
	t.Run("format 2", func(t *testing.T) {
		readGoldenFile(t, "testdata/format-2.db.gz", append(goldenGroup(), goldenGroup2()...))
	})
}

func readGoldenFile(t *testing.T, name string, group []index.Mutation) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && flag.Lookup("golden").Value.String() == "true" {
		writeGoldenFile(t, name, group)
	}
	content := unzip(t, name)
	path := filepath.Join(t.TempDir(), "index.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	x := open(t, path, index.Options{})
	want := create(t)
	apply(t, want, group...)
	equal(t, "content", everything(t, x), everything(t, want))
	for _, x := range []*index.Index{x, want} {
		if value, err := x.Meta("dialect"); err != nil || string(value) != "borgstore" {
			t.Errorf("meta: got %q, %v", value, err)
		}
	}
	// And it can be written to.
	apply(t, x, put("new", 1), index.Delete{Key: "packs/a", TrashUntil: clock})
	checkWhole(t, x)
}

// unzip reads a compressed file of testdata.
func unzip(t *testing.T, name string) []byte {
	t.Helper()
	compressed, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer compressed.Close()
	r, err := gzip.NewReader(compressed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// goldenGroup puts something into every bucket.
func goldenGroup() []index.Mutation {
	backup := put("packs/b", 2)
	backup.Item.Writer, backup.Backup = "alice", true
	exempt := put("locks/l", 3)
	exempt.Exempt = true
	return []index.Mutation{
		index.SetMeta{Name: "dialect", Value: []byte("borgstore")},
		put("packs/a", 1), backup, exempt, put("root", 4), put("gone", 5),
		index.MakeDir{Key: "empty/directory", Now: clock},
		index.Delete{Key: "gone", Now: clock, TrashUntil: clock.Add(time.Hour)},
		index.AcquireLock{ID: "lock", Holder: "alice", Data: []byte("data"), TTL: time.Minute, Now: clock},
		index.PutJob{Job: index.Job{ID: "job", Record: []byte("record")}},
	}
}

// goldenGroup2 puts something into every bucket that format 2 adds.
func goldenGroup2() []index.Mutation {
	return []index.Mutation{
		put("packs/s", 6), put("packs/unused", 7), put("packs/n", 8),
		index.Delete{Key: "packs/unused", Keep: true, Now: clock, TrashUntil: clock.Add(time.Hour)},
		index.OpenPlan{Plan: index.Plan{Principal: "alice", Address: "192.0.2.1", Lock: "lock", Job: "job", At: clock}, Sources: []string{"packs/s"}, Limit: -1},
		index.Found{Key: "packs/n", Ref: "ref-packs/n", Now: clock},
		put("packs/lost", 9), put("packs/bad", 10),
		index.SetFlags{Key: "packs/lost", Ref: "ref-packs/lost", Set: index.FlagMissing},
		index.SetFlags{Key: "packs/bad", Ref: "ref-packs/bad", Set: index.FlagDamaged},
	}
}

func writeGoldenFile(t *testing.T, name string, group []index.Mutation) {
	t.Helper()
	x := create(t)
	apply(t, x, group...)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := x.WriteTo(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, compressed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
