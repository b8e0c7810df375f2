package spill_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo/spill"
)

// newTable keeps so many bytes in memory.
func newTable(t *testing.T, memory int, merge func(older, newer []byte) []byte) (*spill.Table, string) {
	t.Helper()
	dir := t.TempDir()
	table := spill.New(spill.Options{FS: vfs.OS(), Path: filepath.Join(dir, "spill"), Memory: memory, Merge: merge})
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table, dir
}

func wantRows(t *testing.T, table *spill.Table, want map[string]string) {
	t.Helper()
	var keys []string
	got := make(map[string]string)
	err := table.Each(func(key string, value []byte) error {
		keys = append(keys, key)
		got[key] = string(value)
		return nil
	})
	if err != nil || !maps.Equal(got, want) || !slices.IsSorted(keys) || len(keys) != len(want) {
		t.Fatalf("got %d rows (%v), want %d; in order: %v", len(keys), err, len(want), slices.IsSorted(keys))
	}
}

// TestTable puts rows at random, with small and large memory, in one table with a merge and one without, and compares it with a map.
func TestTable(t *testing.T) {
	join := func(older, newer []byte) []byte { return slices.Concat(older, newer) }
	for _, memory := range []int{150, 2000, 100_000, 0} {
		for name, merge := range map[string]func(older, newer []byte) []byte{"newest": nil, "joined": join} {
			t.Run(fmt.Sprintf("%d/%s", memory, name), func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(memory), 1))
				table, dir := newTable(t, memory, merge)
				want := make(map[string]string)
				for i := range 1500 {
					key, value := fmt.Sprint(random.IntN(300)), fmt.Sprint(i, ";")
					if random.IntN(50) == 0 {
						value += string(bytes.Repeat([]byte("v"), 5000))
					}
					if merge == nil {
						want[key] = value
					} else {
						want[key] += value
					}
					if err := table.Put(key, []byte(value)); err != nil {
						t.Fatal(err)
					}
					if random.IntN(100) == 0 {
						if got, err := table.Get(key); err != nil || string(got) != want[key] {
							t.Fatalf("key %s: got %.20q, %v, want %.20q", key, got, err, want[key])
						}
					}
				}
				wantRows(t, table, want)
				for key := range 400 {
					got, err := table.Get(fmt.Sprint(key))
					if err != nil || string(got) != want[fmt.Sprint(key)] {
						t.Fatalf("key %d: got %.20q, %v, want %.20q", key, got, err, want[fmt.Sprint(key)])
					}
				}
				if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
					t.Errorf("the directory has %v (%v), want nothing", names, err)
				}
			})
		}
	}
}

// TestPutInEach: rows that are put while all are looked at are found by the next look.
func TestPutInEach(t *testing.T) {
	table, _ := newTable(t, 300, nil)
	want := make(map[string]string)
	for i := range 100 {
		key := fmt.Sprintf("%03d", i)
		want[key] = "new"
		if err := table.Put(key, []byte("old")); err != nil {
			t.Fatal(err)
		}
	}
	err := table.Each(func(key string, value []byte) error {
		if string(value) != "old" {
			t.Errorf("%s: got %q", key, value)
		}
		return errors.Join(table.Put(key, []byte("new")), table.Put("x"+key, []byte("more")))
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range maps.Clone(want) {
		want["x"+key] = "more"
	}
	wantRows(t, table, want)
	stop := errors.New("stop")
	if err := table.Each(func(string, []byte) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
}

// TestSpillFails: an error of the file system is one of the table, and leaves no file.
func TestSpillFails(t *testing.T) {
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n, hit := 1, true; hit; n++ {
			fsys := vfstest.NewFailing(vfs.OS())
			dir := t.TempDir()
			table := spill.New(spill.Options{FS: fsys, Path: filepath.Join(dir, "spill"), Memory: 500})
			fsys.FailAt(n, when, syscall.EIO)
			var errs []error
			for i := range 100 {
				errs = append(errs, table.Put(fmt.Sprint(i), []byte("value")))
				if errs[i] != nil {
					break
				}
			}
			if err := errors.Join(errs...); err == nil {
				errs = append(errs, table.Each(func(string, []byte) error { return nil }))
			}
			_, err := table.Get("7")
			errs = append(errs, err, table.Close())
			if hit = fsys.Hit(); hit && !errors.Is(errors.Join(errs...), syscall.EIO) {
				t.Errorf("call %d %s: no error", n, when)
			}
		}
	}
}
