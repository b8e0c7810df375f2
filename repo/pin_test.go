package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

// contents is what a pinned state holds.
func contents(t *testing.T, p *repo.Pinned) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := p.Each(func(e index.Entry) error {
		if e.Dir {
			return nil
		}
		blob, err := p.Open(e)
		if err != nil {
			t.Errorf("%s: %v", e.Key, err)
			return nil
		}
		defer blob.Close()
		section, err := blob.Section(0, blob.Size())
		if err != nil {
			return err
		}
		body, err := io.ReadAll(section)
		found[e.Key] = string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestPinned: what is pinned stays readable as it was, whatever clients do, in files and in the log; and goes when that has ended.
func TestPinned(t *testing.T) {
	for _, small := range []int64{0, 1 << 10} {
		a := newAccess(t, func(o *datadir.Options) { o.Small, o.TableMemory = small, 1000 })
		r := a.Repository()
		want := make(map[string]string)
		for _, key := range []string{"packs/a", "packs/b", "packs/c", "index/a", "config/x"} {
			want[key] = strings.Repeat(key, 20)
			mustPut(t, a, key, want[key])
		}
		p, err := r.Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Pin(t.Context()); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("pin again: %v", err)
		}
		mustPut(t, a, "packs/a", "another")
		mustPut(t, a, "packs/new", "new")
		if err := errors.Join(a.Delete(t.Context(), "packs/b"), a.Move(t.Context(), "packs/c", "packs/d")); err != nil {
			t.Fatal(err)
		}
		if err := r.ReclaimSome(t.Context()); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("reclaim: %v", err)
		}
		if _, err := r.EmptyTrash(t.Context(), time.Now().Add(time.Hour)); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("empty the trash: %v", err)
		}
		if _, err := r.Vacuum(t.Context(), nil, nil); err != nil {
			t.Error(err)
		}
		if items, bytes := p.Total(); items != 5 || bytes != 720 {
			t.Errorf("%d items, %d bytes", items, bytes)
		}
		got := contents(t, p)
		for key := range want {
			if got[key] != want[key] {
				t.Errorf("%s: got %.20q, want %.20q", key, got[key], want[key])
			}
		}
		if len(got) != len(want) || p.Err() != nil {
			t.Errorf("%d items, %v", len(got), p.Err())
		}
		p.Release()
		waitFor(t, "the end of what was removed", func() bool { return len(trash(t, r)) == 0 && r.Usage().TrashItems == 0 })
		if p.Err() == nil {
			t.Error("it can be used after its end")
		}
	}
}

// TestPinnedTrash: what can be restored is a part of the state, and not what was removed since, which is an item of it, nor what has expired.
func TestPinnedTrash(t *testing.T) {
	clock := repotest.FixedClock(time.Now())
	a := newAccess(t, func(o *datadir.Options) {
		o.Now = clock.Now
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	for _, key := range []string{"packs/early", "packs/before", "packs/since"} {
		mustPut(t, a, key, key)
	}
	remove := func(key string) {
		t.Helper()
		if err := a.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	p, err := r.Pin(t.Context()) // so that nothing goes
	if err != nil {
		t.Fatal(err)
	}
	remove("packs/early")
	p.Release()
	clock.Advance(30 * time.Minute)
	remove("packs/before")
	mustPut(t, a, "locks/"+strings.Repeat("0", 64), "lock")
	remove("locks/" + strings.Repeat("0", 64))
	clock.Advance(31 * time.Minute)
	if p, err = r.Pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	clock.Advance(time.Millisecond)
	remove("packs/since")
	if err := p.ReadTrash(); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := p.EachRemoved(func(row index.Removed) error { got = append(got, row.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if items, bytes := p.TotalRemoved(); fmt.Sprint(got) != "[packs/before]" || items != 1 || bytes != 12 {
		t.Errorf("got %v, %d items, %d bytes", got, items, bytes)
	}
	if items, _ := p.Total(); items != 1 {
		t.Errorf("%d items, want the one that was removed since", items)
	}
}

// TestPinnedGivesWay: a pinned state ends with the request, and where the trash is full and clients would be refused.
func TestPinnedGivesWay(t *testing.T) {
	a := newAccess(t, nil)
	r := a.Repository()
	mustPut(t, a, "packs/a", "a")
	ctx, cancel := context.WithCancel(t.Context())
	p, err := r.Pin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := p.Each(func(index.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the request: %v", err)
	}
	p.Release()

	if p, err = r.Pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if repo.Unpin(r, "nothing waits for it") {
		t.Error("it ended for nothing")
	}
	if err := a.Delete(t.Context(), "packs/a"); err != nil {
		t.Fatal(err)
	}
	if err := r.ReclaimSome(t.Context()); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("reclaim: %v", err)
	}
	if !repo.Unpin(r, "the disk is short") {
		t.Error("it did not end")
	}
	if err := p.Err(); !errors.Is(err, repo.ErrBusy) || !strings.Contains(err.Error(), "the disk is short") {
		t.Errorf("got %v", err)
	}
	waitFor(t, "the end of what was removed", func() bool { return r.Usage().TrashItems == 0 })
	if _, err := p.Link(index.Entry{Key: "packs/a", Item: index.Item{Ref: "\x03" + strings.Repeat("x", 16)}}, filepath.Join(t.TempDir(), "x")); err != p.Err() {
		t.Errorf("link: %v", err)
	}
}
