package repo_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestQuotaRace: however many clients, usage never passes the limit, and what fits is admitted.
func TestQuotaRace(t *testing.T) {
	const size, fits = 1000, 20
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: size * fits} }
	})
	body := strings.Repeat("x", size)
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored, refused := 0, 0
	for i := range 64 {
		wg.Go(func() {
			_, err := put(a, fmt.Sprintf("k%d", i), body)
			mu.Lock()
			defer mu.Unlock()
			var q *repo.QuotaError
			switch {
			case err == nil:
				stored++
			case errors.As(err, &q):
				refused++
			default:
				t.Errorf("put %d: %v", i, err)
			}
			if u := a.Repository().Usage(); u.Used > size*fits {
				t.Errorf("usage %d is above the limit", u.Used)
			}
		})
	}
	wg.Wait()
	if stored > fits || stored+refused != 64 {
		t.Errorf("stored %d, refused %d; at most %d fit", stored, refused, fits)
	}
	for i := range 64 { // no promise is left behind: the rest fits now, one by one
		put(a, fmt.Sprintf("k%d", i), body)
	}
	if u := a.Repository().Usage(); u.Used != size*fits || u.Reserved != 0 {
		t.Errorf("afterwards: used %d, reserved %d; want %d, 0", u.Used, u.Reserved, size*fits)
	}
}

func TestQuotaEdges(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 100} }
	})
	mustPut(t, a, "a", strings.Repeat("x", 100)) // equality is allowed
	mustPut(t, a, "empty", "")
	var q *repo.QuotaError
	if _, err := put(a, "b", "y"); !errors.As(err, &q) || q.Wanted != 101 || q.Limit != 100 || q.Error() != "Quota exceeded: 101 > 100" {
		t.Errorf("one byte more: got %v", err)
	}
	if _, err := a.Put(ctx, repo.PutRequest{Key: "b", Body: strings.NewReader("y"), Size: -1}); !errors.As(err, &q) {
		t.Errorf("one byte more of unknown length: got %v", err)
	}
	mustPut(t, a, "a", strings.Repeat("z", 100)) // replacing needs no more
	mustPut(t, a, "locks/me", "a lock is always admitted")
	if err := a.Repository().SetQuota(ctx, 50); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{100, 90, 80, 70, 60, 50} { // also above the limit, and announced or not
		for _, announced := range []int64{size, -1} {
			body := strings.NewReader(strings.Repeat("z", int(size)))
			if _, err := a.Put(ctx, repo.PutRequest{Key: "a", Body: body, Size: announced}); err != nil {
				t.Errorf("shrinking to %d (%d announced): %v", size, announced, err)
			}
		}
		if _, err := put(a, "a", strings.Repeat("z", int(size)+1)); !errors.As(err, &q) {
			t.Errorf("growing from %d: got %v", size, err)
		}
		if _, err := a.Put(ctx, repo.PutRequest{Key: "a", Body: strings.NewReader(strings.Repeat("z", int(size)+1)), Size: -1}); !errors.As(err, &q) {
			t.Errorf("growing from %d, of unknown length: got %v", size, err)
		}
	}
	if err := a.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if u := a.Repository().Usage(); u.Used != 0 || u.Exempt != 25 || u.Limit != 50 {
		t.Errorf("got %+v", u)
	}
}

// A quota that cannot be read is not "no quota".
func TestUnreadableQuotaIsRefused(t *testing.T) {
	dir := newRepository(t)
	s := datadir.Open(datadir.Options{Dir: dir})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetMeta(ctx, "quota", []byte("a lot")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = datadir.Open(datadir.Options{Dir: dir})
	defer s.Close()
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get: got %v, want ErrCorrupt", err)
	}
}

// A quota of the repository's own wins over the configured one until it is taken back, also over a restart.
func TestQuotaOfItsOwnCanBeTakenBack(t *testing.T) {
	dir := newRepository(t)
	configured := int64(100)
	open := func() (*datadir.Set, *repo.Repository) {
		s := datadir.Open(datadir.Options{Dir: dir, Settings: func(string) repo.Settings { return repo.Settings{Quota: configured} }})
		r, err := s.Get(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		return s, r
	}
	s, r := open()
	if err := r.SetQuota(ctx, -1); err != nil || r.Usage().Limit != -1 {
		t.Errorf("own: got limit %d, %v", r.Usage().Limit, err)
	}
	configured = 50
	s.Reconfigure()
	if got := r.Usage().Limit; got != -1 {
		t.Errorf("after a new configuration: got limit %d, want its own", got)
	}
	for range 2 { // also when there is none
		if err := r.UnsetQuota(ctx); err != nil || r.Usage().Limit != 50 {
			t.Errorf("taken back: got limit %d, %v, want the configured one", r.Usage().Limit, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	configured = 70
	s, r = open()
	defer s.Close()
	if got := r.Usage().Limit; got != 70 {
		t.Errorf("after a restart: got limit %d, want the configured one", got)
	}
}

// Locks are exempt from the quota; under any other name their bytes count. However many clients rename them, and
// upload meanwhile, usage never passes the limit, and what an upload was promised is there for it.
func TestMoveIsNoWayAroundTheQuota(t *testing.T) {
	const size, fits, n = 60_000, 3, 16
	a := newAccess(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: size * fits} }
	})
	body := strings.Repeat("x", size)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			lock, pack := fmt.Sprintf("locks/%d", i), fmt.Sprintf("packs/%d", i)
			if _, err := put(a, lock, body); err != nil {
				t.Errorf("lock %d: %v", i, err)
			}
			var q *repo.QuotaError
			if err := a.Move(ctx, lock, pack); err != nil && (!errors.As(err, &q) || q.Wanted <= q.Limit) {
				t.Errorf("move %d: %v", i, err)
			}
			if _, err := put(a, "other/"+pack, body); err != nil && !errors.As(err, &q) {
				t.Errorf("put %d: %v", i, err)
			}
			if u := a.Repository().Usage(); u.Bytes-u.Exempt > size*fits || u.Used+u.Reserved > size*fits {
				t.Errorf("%+v is above the limit", u)
			}
		})
	}
	wg.Wait()
	u := a.Repository().Usage()
	packs, err := repo.IndexOf(a.Repository()).DirCounters("packs")
	if err != nil {
		t.Fatal(err)
	}
	others, err := repo.IndexOf(a.Repository()).DirCounters("other")
	if err != nil || packs.Bytes+others.Bytes != u.Used || u.Used > size*fits || u.Used != u.Bytes-u.Exempt || u.Reserved != 0 {
		t.Errorf("afterwards: %+v, %d bytes of packs, %v", u, packs.Bytes+others.Bytes, err)
	}
	for i := range n { // what was refused stays a lock
		if _, err := a.Stat(ctx, fmt.Sprintf("packs/%d", i)); err != nil {
			wantContent(t, a, fmt.Sprintf("locks/%d", i), body)
		}
	}
}

// What counts stays counted wherever it goes, and a move that adds nothing works also above the limit.
func TestMoveAmongLocks(t *testing.T) {
	a := newAccess(t, nil)
	r := a.Repository()
	used := func(what string, want, exempt int64) {
		t.Helper()
		if u := r.Usage(); u.Used != want || u.Exempt != exempt {
			t.Errorf("%s: got %d bytes and %d exempt, want %d and %d", what, u.Used, u.Exempt, want, exempt)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := a.Move(ctx, from, to); err != nil {
			t.Errorf("move %s to %s: %v", from, to, err)
		}
	}
	mustPut(t, a, "locks/a", "12345")
	mustPut(t, a, "packs/p", strings.Repeat("p", 100_000))
	if err := r.SetQuota(ctx, 1); err != nil {
		t.Fatal(err)
	}
	move("locks/a", "locks/b")
	used("a lock renamed", 100_000, 5)
	move("packs/p", "locks/p")
	used("a pack among locks", 100_000, 5)
	move("locks/p", "packs/p")
	used("and back", 100_000, 5)
	var q *repo.QuotaError
	if err := a.Move(ctx, "locks/b", "packs/b"); !errors.As(err, &q) || q.Wanted != 100_005 || q.Limit != 1 {
		t.Errorf("a lock among packs: got %v, want a QuotaError", err)
	}
	used("refused", 100_000, 5)
	writer := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrwD"}`)})
	if err := writer.Move(ctx, "locks/b", "packs/p"); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("over an item without W: got %v, want ErrDenied", err)
	}
	if err := r.SetQuota(ctx, 5); err != nil {
		t.Fatal(err)
	}
	move("locks/b", "packs/p")
	used("a lock in place of a pack", 5, 0)
	move("packs/p", "locks/b")
	used("no lock any more", 5, 0)
}

// A ceiling holds for one principal, beside the limit of the repository, and for what all have stored.
func TestCeiling(t *testing.T) {
	r := newAccess(t, nil).Repository()
	as := func(ceiling int64) *repo.Access { return r.As(repo.Principal{Ceiling: &ceiling}) }
	var q *repo.QuotaError
	refused := func(what string, err error, limit int64) {
		t.Helper()
		if !errors.As(err, &q) || q.Limit != limit {
			t.Errorf("%s: got %v, want a QuotaError at %d", what, err, limit)
		}
	}
	if err := r.SetQuota(ctx, 200); err != nil {
		t.Fatal(err)
	}
	small, large := as(100), as(500)
	mustPut(t, small, "a", strings.Repeat("x", 100))
	_, err := put(small, "b", "y")
	refused("above the ceiling", err, 100)
	_, err = small.Put(ctx, repo.PutRequest{Key: "b", Body: strings.NewReader("y"), Size: -1})
	refused("above the ceiling, of unknown length", err, 100)
	_, err = small.Reserve(1, 1, true)
	refused("a plan above the ceiling", err, 100)
	mustPut(t, small, "locks/l", "lock")
	refused("a lock renamed above the ceiling", small.Move(ctx, "locks/l", "b"), 100)
	_, err = put(small, "locks/big", strings.Repeat("x", 70_000))
	refused("no lock above the ceiling", err, 100)
	mustPut(t, large, "b", strings.Repeat("x", 100))
	_, err = put(large, "c", "y")
	refused("above the limit, below the ceiling", err, 200)
	mustPut(t, small, "a", strings.Repeat("x", 99)) // smaller, if still above the ceiling
	_, err = put(small, "a", strings.Repeat("x", 100))
	refused("growing above the ceiling", err, 100)
	mustPut(t, large, "a", strings.Repeat("x", 100))
	if err := small.Delete(ctx, "a"); err != nil {
		t.Errorf("delete above the ceiling: %v", err)
	}
	for want, a := range map[int64]*repo.Access{100: small, 200: large} {
		if u := a.Usage(); u.Limit != want || u.Used != 100 {
			t.Errorf("usage: got %d of %d, want 100 of %d", u.Used, u.Limit, want)
		}
	}
}
