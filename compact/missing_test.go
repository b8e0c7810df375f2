package compact_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// lose removes the file of an item.
func (p *place) lose(key string) {
	p.t.Helper()
	entry, err := p.repo.Entry(key)
	if err != nil {
		p.t.Fatal(err)
	}
	id := fmt.Sprintf("%x", entry.Item.Ref[1:])
	if err := os.Remove(filepath.Join(p.dir, "r", "blobs", id[len(id)-2:], id)); err != nil {
		p.t.Fatal(err)
	}
}

// TestMissingItems: to a plan an item whose file is gone is not there, but it can be deleted, and made again by who may not overwrite.
func TestMissingItems(t *testing.T) {
	p := newPlace(t, nil)
	p.put("a", []byte("source"))
	p.put("lost", []byte("lost"))
	p.lose("lost")
	if _, err := p.run(compact.Operation{Ranges: []compact.Range{{Key: "lost", Length: 2}}, Target: "t"}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("missing source: got %v, want ErrNotFound", err)
	}
	copied := compact.Operation{
		Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}},
		Naming: compact.Naming{Algorithm: algorithm(t, "sha256"), Prefix: "packs"},
	}
	name := p.mustRun(copied)[0].Key
	p.lose(name)
	permissions, err := policy.Parse(`{"": "lrw"}`)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := p.runAs(p.repo.As(repo.Principal{Permissions: permissions}), copied)
	if err != nil || outcomes[0].Key != name {
		t.Fatalf("missing output: got %+v, %v", outcomes, err)
	}
	p.want(name, "our")
	if n := p.repo.Usage().MissingItems; n != 1 {
		t.Errorf("%d missing items, want the one that is lost", n)
	}
	p.mustRun(compact.Operation{Deletes: []string{"lost"}})
	if _, err := p.repo.Entry("lost"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("deleted item: got %v, want that its row is gone", err)
	}
	p.wantKeys("a", name)
}

// TestSalvage: while it is on, a plan copies damaged bytes as they lie.
func TestSalvage(t *testing.T) {
	p := newPlace(t, nil)
	p.put("a", []byte("precious"))
	p.spoil(func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("P"), 0)
		return err
	})
	whole := compact.Operation{Ranges: []compact.Range{{Key: "a", Length: 8}}, Target: "b"}
	for range 2 { // the first one finds it, the second knows it
		if _, err := p.run(whole); !errors.Is(err, repo.ErrDamaged) {
			t.Errorf("run: got %v, want ErrDamaged", err)
		}
	}
	if _, err := p.repo.Salvage(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	p.mustRun(whole)
	p.want("b", "Precious")
}
