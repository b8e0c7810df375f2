package repo_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// flipAt changes a bit of a file.
func flipAt(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// flagsOf is what the index says of an item.
func flagsOf(t *testing.T, r *repo.Repository, key string) index.Flags {
	t.Helper()
	entry, err := repo.IndexOf(r).Get(key)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Item.Flags
}

// TestReadFindsDamage: a read that meets a wrong byte gives none of its block, marks the item as a scrub does, and the scrub
// agrees. When the byte is right again, a scrub lets the item be served.
func TestReadFindsDamage(t *testing.T) {
	a := newAccess(t, nil)
	r := a.Repository()
	body := strings.Repeat("0123456789abcdef", 40_000)
	mustPut(t, a, "x", body)
	path := blobPaths(t, repo.Dir(r))[0]
	entry, err := a.Stat(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	flipAt(t, path, 600_000)
	object, err := a.Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	p := make([]byte, 100_000)
	if n, err := object.ReadAt(p, 100_000); err != nil || string(p[:n]) != body[100_000:200_000] {
		t.Errorf("a range beside the wrong byte: got %d bytes, %v", n, err)
	}
	if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged != 0 {
		t.Error("the item is marked before anybody read the wrong byte")
	}
	if n, err := object.ReadAt(p[:10], 600_000); n != 0 || !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("the wrong byte: got %d bytes, %v; want ErrDamaged", n, err)
	}
	if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged == 0 || r.Usage().DamagedItems != 1 {
		t.Error("the item is not marked by the read")
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("the item afterwards: got %v, want ErrDamaged", err)
	}
	if err := r.Verify(ctx, entry, nil); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("scrub: got %v, want ErrDamaged as the read", err)
	}
	flipAt(t, path, 600_000)
	if entry, err = a.Row(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry, nil); err != nil {
		t.Errorf("scrub of what is right again: %v", err)
	}
	wantContent(t, a, "x", body)
}

// TestReadMendsSums: an item whose checksums are damaged, missing, or of other bytes is read, whole and in part, and has its
// checksums again.
func TestReadMendsSums(t *testing.T) {
	a := newAccess(t, nil)
	r := a.Repository()
	body := strings.Repeat("0123456789abcdef", 40_000)
	mustPut(t, a, "x", body)
	sums := blobPaths(t, repo.Dir(r))[0] + ".sums"
	good, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(){
		"header":  func() { flipAt(t, sums, 20) },
		"group":   func() { flipAt(t, sums, int64(len(good))-6) },
		"missing": func() { os.Remove(sums) },
		"cut":     func() { os.Truncate(sums, int64(len(good))-1) },
		"empty":   func() { os.Truncate(sums, 0) },
	} {
		spoil()
		object, err := a.Open(ctx, "x")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := make([]byte, 10)
		if n, err := object.ReadAt(p, 600_000); err != nil || string(p[:n]) != body[600_000:600_010] {
			t.Errorf("%s: got %q, %v", name, p[:n], err)
		}
		object.Close()
		wantContent(t, a, "x", body)
		const group = 4 * (10 + 1)
		made, err := os.ReadFile(sums) // with another time in the label
		if err != nil || len(made) != len(good) || string(made[len(made)-group:]) != string(good[len(good)-group:]) {
			t.Errorf("%s: the checksums were not made anew: %q, want %q, %v", name, made, good, err)
		}
		if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged != 0 {
			t.Errorf("%s: the item is marked as damaged", name)
		}
	}
}

// TestReadErrorIsNoDamage: a block that the disk does not give ends the read, and says nothing of the item.
func TestReadErrorIsNoDamage(t *testing.T) {
	fsys := vfstest.NewFailing(vfs.OS())
	a := newAccess(t, func(o *datadir.Options) { o.FS = fsys })
	r := a.Repository()
	body := strings.Repeat("0123456789abcdef", 40_000)
	mustPut(t, a, "x", body)
	path := blobPaths(t, repo.Dir(r))[0]
	fsys.FailRead(path, 600_000, 1, syscall.EIO)
	if got, err := get(a, "x"); !errors.Is(err, syscall.EIO) || errors.Is(err, repo.ErrCorrupt) || !strings.HasPrefix(body, got) {
		t.Errorf("get: got %d bytes, %v; want EIO", len(got), err)
	}
	// The doubt that the checksums raise is not cleared either while the disk does not give the bytes.
	if err := os.Remove(path + ".sums"); err != nil {
		t.Fatal(err)
	}
	if _, err := get(a, "x"); !errors.Is(err, syscall.EIO) || errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get without checksums: got %v; want EIO", err)
	}
	fsys.Reset()
	if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged != 0 {
		t.Error("the item is marked as damaged")
	}
	wantContent(t, a, "x", body)
}

// TestSizeInIndex: a size in the index that the blob has not is damage, whichever of the two is wrong: nothing is served.
func TestSizeInIndex(t *testing.T) {
	a := newAccess(t, nil)
	r := a.Repository()
	mustPut(t, a, "x", strings.Repeat("x", 50))
	path := blobPaths(t, repo.Dir(r))[0]
	if err := os.Truncate(path, 70); err != nil { // as an index does that says 50 of a blob of 70
		t.Fatal(err)
	}
	if got, err := get(a, "x"); got != "" || !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("got %q, %v, want ErrDamaged", got, err)
	}
	if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged == 0 {
		t.Error("the item is not marked")
	}
}

// TestSalvageServesAsItLies: what is damaged is sent whole, with its wrong bytes, while an administrator allows it.
func TestSalvageServesAsItLies(t *testing.T) {
	a := newAccess(t, nil)
	r := a.Repository()
	body := strings.Repeat("0123456789abcdef", 40_000)
	mustPut(t, a, "x", body)
	flipAt(t, blobPaths(t, repo.Dir(r))[0], 600_000)
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("got %v, want ErrDamaged", err)
	}
	if _, err := r.Salvage(ctx, 1e12); err != nil {
		t.Fatal(err)
	}
	got, err := get(a, "x")
	if err != nil || len(got) != len(body) || got[:600_000] != body[:600_000] || got[600_001:] != body[600_001:] || got == body {
		t.Errorf("got %d bytes, %v; want all, one of them wrong", len(got), err)
	}
}

// TestReadersShareOneLook: many that meet the same wrong byte let the item be read once.
func TestReadersShareOneLook(t *testing.T) {
	slow := &slowReads{FS: vfs.OS(), free: make(chan struct{})}
	a := newAccess(t, func(o *datadir.Options) { o.FS = slow })
	body := strings.Repeat("0123456789abcdef", 40_000)
	mustPut(t, a, "x", body)
	if err := os.Remove(blobPaths(t, repo.Dir(a.Repository()))[0] + ".sums"); err != nil {
		t.Fatal(err)
	}
	const readers = 20
	results := make(chan error, readers)
	objects := make([]*repo.Object, readers)
	for i := range objects {
		object, err := a.Open(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		defer object.Close()
		objects[i] = object
	}
	slow.on.Store(true)
	for _, object := range objects {
		go func() {
			p := make([]byte, 10)
			n, err := object.ReadAt(p, 600_000)
			if string(p[:n]) != body[600_000:600_010] {
				err = errors.Join(err, io.ErrUnexpectedEOF)
			}
			results <- err
		}()
	}
	// Each reads its block; then one of them reads all.
	waitFor(t, "the reads", func() bool { return slow.reading.Load() == readers })
	for range readers {
		slow.free <- struct{}{}
	}
	waitFor(t, "the look", func() bool { return slow.reading.Load() > readers })
	time.Sleep(50 * time.Millisecond)
	if n := slow.reading.Load(); n != readers+1 {
		t.Errorf("%d readers began %d looks, want one", readers, n-readers)
	}
	slow.on.Store(false)
	close(slow.free)
	for range readers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestUnverified: a file that was taken in as it was is read as it lies until a scrub has read it: then its BLAKE3 is recorded
// and its blocks are checked; if its name says a digest that it does not have, it is damaged.
func TestUnverified(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r := create(t, s, "r")
	body := strings.Repeat("0123456789abcdef", 40_000)
	sum := sha256.Sum256([]byte(body))
	for i, item := range []index.Item{
		{}, {Algorithm: "sha256", Sum: sum[:]}, {Algorithm: "sha256", Sum: make([]byte, 32)}, {Algorithm: "a digest that nobody knows", Sum: sum[:]},
	} {
		id := append(make([]byte, 15), byte(i))
		if err := os.WriteFile(filepath.Join(repo.Dir(r), "blobs", fmt.Sprintf("%02x", i), fmt.Sprintf("%x", id)), []byte(body), 0o400); err != nil {
			t.Fatal(err)
		}
		item.Ref, item.Size, item.Flags = "\x03"+string(id), int64(len(body)), index.FlagUnverified
		if _, err := repo.IndexOf(r).Apply(ctx, index.Put{Key: fmt.Sprint(i), Item: item, Limit: -1, Now: time.UnixMilli(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	for i, damaged := range []bool{false, false, true, false} {
		key := fmt.Sprint(i)
		wantContent(t, a, key, body)
		entry, err := a.Row(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(ctx, entry, nil); errors.Is(err, repo.ErrDamaged) != damaged || !damaged && err != nil {
			t.Errorf("item %d: verify: got %v, want damaged %v", i, err, damaged)
		}
		if flags := flagsOf(t, r, key); damaged && flags != index.FlagUnverified|index.FlagDamaged || !damaged && flags != 0 {
			t.Errorf("item %d: flags %d", i, flags)
		}
		if entry, err = a.Row(ctx, key); err != nil || damaged == (entry.Item.BLAKE3 == blake3.Sum256([]byte(body))) {
			t.Errorf("item %d: BLAKE3 %x, %v", i, entry.Item.BLAKE3, err)
		}
	}
	wantContent(t, a, "0", body)
	path := filepath.Join(repo.Dir(r), "blobs", "00", strings.Repeat("0", 32))
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	flipAt(t, path, 600_000)
	if _, err := get(a, "0"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("a wrong byte behind the scrub: got %v, want ErrDamaged", err)
	}
}
