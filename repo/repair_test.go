package repo_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// fileOf is the file of the item at key.
func fileOf(t *testing.T, r *repo.Repository, key string) string {
	t.Helper()
	entry, err := repo.IndexOf(r).Get(key)
	if err != nil {
		t.Fatal(err)
	}
	id := hex.EncodeToString([]byte(entry.Item.Ref[1:]))
	return filepath.Join(repo.Dir(r), "blobs", id[len(id)-2:], id)
}

// withTrash gives a set a grace time.
func withTrash(o *datadir.Options) {
	o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
}

// TestRepairFromTrash: an item whose bytes are wrong or gone gets those of another blob that a client had removed, in a file and in the
// log, and keeps its times. One for which there is none stays marked.
func TestRepairFromTrash(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 20_000)
	for _, c := range []struct {
		name, body string
		damage     func(t *testing.T, r *repo.Repository)
	}{
		{"wrong byte", large, func(t *testing.T, r *repo.Repository) { flipAt(t, fileOf(t, r, "x"), 100_000) }},
		{"cut short", large, func(t *testing.T, r *repo.Repository) {
			if err := os.Truncate(fileOf(t, r, "x"), 1000); err != nil {
				t.Fatal(err)
			}
		}},
		{"missing", large, func(t *testing.T, r *repo.Repository) {
			if err := os.Remove(fileOf(t, r, "x")); err != nil {
				t.Fatal(err)
			}
		}},
		{"in the log", large[:1000] + "second", func(t *testing.T, r *repo.Repository) { flip(t, r.As(repo.Principal{}), "x") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSet(t, func(o *datadir.Options) {
				inSegments(o)
				withTrash(o)
			})
			r := create(t, s, "r")
			a := r.As(repo.Principal{Name: "tester"})
			mustPut(t, a, "old", c.body)
			if err := a.Delete(ctx, "old"); err != nil {
				t.Fatal(err)
			}
			mustPut(t, a, "x", c.body)
			mustPut(t, a, "lonely", strings.Repeat("y", len(c.body)))
			before, err := repo.IndexOf(r).Get("x")
			if err != nil {
				t.Fatal(err)
			}
			c.damage(t, r)
			if _, err := get(a, "x"); err == nil {
				t.Fatal("the broken item can be read")
			}
			waitFor(t, "the repair", func() bool { return r.Usage().DamagedItems+r.Usage().MissingItems == 0 })
			wantContent(t, a, "x", c.body)
			after, err := repo.IndexOf(r).Get("x")
			if err != nil || after.Item.Ref != before.Item.Ref || !after.Item.Created.Equal(before.Item.Created) || !after.Item.Modified.Equal(before.Item.Modified) {
				t.Errorf("the item: got %+v, %v; want as before %+v", after.Item, err, before.Item)
			}
			wantContent(t, a, "lonely", strings.Repeat("y", len(c.body)))
			checkAll(t, s)
		})
	}
}

// TestRepairAfterOpening: what was marked before is looked for, too, when the repository is opened.
func TestRepairAfterOpening(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20_000)
	dir := t.TempDir()
	open := func() (*repo.Access, *datadir.Set) {
		s := datadir.Open(datadir.Options{Dir: dir, Settings: func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }})
		r, err := s.Get(ctx, "r")
		if errors.Is(err, repo.ErrNoRepository) {
			r, err = s.Create(ctx, "r", "borgstore")
		}
		if err != nil {
			t.Fatal(err)
		}
		return r.As(repo.Principal{}), s
	}
	a, s := open()
	mustPut(t, a, "x", body)
	flipAt(t, fileOf(t, a.Repository(), "x"), 200_000)
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("got %v, want ErrDamaged", err)
	}
	mustPut(t, a, "copy", body)
	if err := errors.Join(a.Delete(ctx, "copy"), s.Close()); err != nil {
		t.Fatal(err)
	}
	a, s = open()
	defer s.Close()
	waitFor(t, "the repair", func() bool { return a.Repository().Usage().DamagedItems == 0 })
	wantContent(t, a, "x", body)
}

// TestNoRepairFromOtherBytes: what is damaged in the trash, too, repairs nothing.
func TestNoRepairFromOtherBytes(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20_000)
	a := newAccess(t, withTrash)
	r := a.Repository()
	mustPut(t, a, "old", body)
	flipAt(t, fileOf(t, r, "old"), 200_000)
	if err := a.Delete(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "x", body)
	flipAt(t, fileOf(t, r, "x"), 300_000)
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("got %v", err)
	}
	if err := repo.RepairMarked(ctx, r); err != nil {
		t.Fatal(err)
	}
	if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged == 0 {
		t.Error("the item was repaired from damaged bytes")
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("the item: got %v, want ErrDamaged", err)
	}
	if _, incoming := blobFiles(t, repo.Dir(r)); incoming > 0 {
		t.Errorf("%d files are left in incoming", incoming)
	}
}

// TestRetryFindsWrongByte: a client that sends again what is stored, without the right to overwrite it, is not told that it is stored
// while a byte of it is wrong, although nobody has noticed: its bytes take the place of the wrong ones.
func TestRetryFindsWrongByte(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20_000)
	a := newAccess(t, nil)
	r := a.Repository()
	mustPut(t, a, "x", body)
	flipAt(t, fileOf(t, r, "x"), 200_000)
	writer := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	if _, err := put(writer, "x", strings.Replace(body, "0", "1", 1)); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("other bytes: got %v, want ErrDenied", err)
	}
	if _, err := put(writer, "x", body); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "x", body)
	if flags := flagsOf(t, r, "x"); flags&index.FlagDamaged != 0 {
		t.Error("the item is marked as damaged")
	}
}
