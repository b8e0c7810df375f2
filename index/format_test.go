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
	"slices"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
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
	path := filepath.Join(t.TempDir(), "index.db")
	if err := os.WriteFile(path, unzip(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, path, group)
}

// checkGolden opens a golden index, and wants it to hold what the group makes.
func checkGolden(t *testing.T, path string, group []index.Mutation) {
	t.Helper()
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

// An oldFormat is a file of an older format, and the group that made what it holds.
type oldFormat struct {
	name  string
	log   string // empty: it has none
	group []index.Mutation
}

func oldFormats() []oldFormat {
	return []oldFormat{
		{"testdata/format-1.db.gz", "", goldenGroup()},
		{"testdata/format-2.db.gz", "", append(goldenGroup(), goldenGroup2()...)},
		{"testdata/format-3.db.gz", "testdata/format-3.log.gz", append(slices.Concat(goldenGroup(), goldenGroup2(), goldenGroup3()), putBytes("small", []byte("bytes in the log")))},
	}
}

// writeTo writes the file, and its log if it has one, to a directory.
func (f oldFormat) writeTo(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "index.db")
	err := os.WriteFile(path, unzip(t, f.name), 0o600)
	if f.log != "" {
		log := filepath.Join(filepath.Dir(path), index.LogDir)
		err = errors.Join(err, os.Mkdir(log, 0o700), os.WriteFile(filepath.Join(log, "0000000000000000"), unzip(t, f.log), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUpgradeInterrupted: an upgrade that ends at any call of the file system, or behind any commit of the file, is completed by the next
// opening, and nothing is missing.
func TestUpgradeInterrupted(t *testing.T) {
	for _, old := range oldFormats() {
		interrupted := func(o index.Options) (stopped bool) {
			t.Helper()
			path := old.writeTo(t, t.TempDir())
			x, err := index.Open(path, o)
			if err == nil {
				mustClose(t, x)
			}
			checkGolden(t, path, old.group)
			return err != nil
		}
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			stopped := 0
			for stop := true; stop; stopped++ {
				fsys := vfstest.NewFailing(vfs.OS())
				fsys.StopAt(stopped+1, when, syscall.EIO)
				stop = interrupted(index.Options{FS: fsys})
			}
			if stopped < 5 {
				t.Errorf("%s: stopped %s %d calls, want more", old.name, when, stopped)
			}
		}
		for commits := 1; ; commits++ {
			left := commits
			if !interrupted(index.Options{AfterWrite: func() error {
				if left--; left == 0 {
					return syscall.EIO
				}
				return nil
			}}) {
				break
			}
		}
	}
}

// TestGoldenLog reads a file of each format with a log, as a crash left them: a part of the rows is in the log alone.
func TestGoldenLog(t *testing.T) {
	for _, n := range []string{"3", "4"} {
		t.Run("format "+n, func(t *testing.T) { readGoldenLog(t, "testdata/format-"+n+".db.gz", "testdata/format-"+n+".log.gz") })
	}
}

func readGoldenLog(t *testing.T, file, segment string) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && flag.Lookup("golden").Value.String() == "true" {
		makeGoldenLog(t, file, segment)
	}
	path := oldFormat{name: file, log: segment}.writeTo(t, t.TempDir())
	x, err := index.Open(path, index.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	wantPayload(t, x, "small", []byte("bytes in the log"))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, index.Options{})
	apply(t, x, index.Delete{Key: "small", TrashUntil: clock})
	apply(t, x, index.PurgeTrash{IDs: trashIDs(t, x, "small")})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, path, slices.Concat(goldenGroup(), goldenGroup2(), goldenGroup3()))
}

func trashIDs(t *testing.T, x *index.Index, key string) (ids []string) {
	t.Helper()
	err := x.Trash(time.Time{}, func(r index.Removed) error {
		if r.Key == key {
			ids = append(ids, r.ID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func makeGoldenLog(t *testing.T, file, segment string) {
	t.Helper()
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{})
	apply(t, x, goldenGroup()...)
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	release := x.HoldCheckpoints()
	apply(t, x, goldenGroup2()...)
	apply(t, x, goldenGroup3()...)
	apply(t, x, putBytes("small", []byte("bytes in the log")))
	crashed := copyIndex(t, path)
	release()
	mustClose(t, x)
	zip(t, crashed, file)
	zip(t, filepath.Join(filepath.Dir(crashed), index.LogDir, "0000000000000000"), segment)
}

// zip compresses a file.
func zip(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, err = w.Write(content)
	if err := errors.Join(err, w.Close(), os.WriteFile(to, compressed.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
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

// goldenGroup3 puts something into each bucket that format 3 adds and whose rows do not depend on the log.
func goldenGroup3() []index.Mutation {
	changed, unverified := put("packs/c", 11), put("packs/u", 12)
	changed.Cause = &index.Cause{Principal: "alice", Address: "192.0.2.1", Job: "job"}
	unverified.Item.Flags = index.FlagUnverified
	return []index.Mutation{changed, unverified}
}
