package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
	"packhouse/repo/policy"
)

var ctx = context.Background()

func algorithm(t testing.TB, name string) digest.Algorithm {
	t.Helper()
	a, err := digest.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func permissions(t testing.TB, text string) *policy.Permissions {
	t.Helper()
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPermissionsOfOperations(t *testing.T) {
	s := newSet(t, nil)
	r := create(t, s, "r")
	sha := algorithm(t, "sha256")
	for _, test := range []struct {
		name  string
		needs string // any one of these letters is enough
		do    func(a *repo.Access) error
	}{
		{"stat", "lr", func(a *repo.Access) error { _, err := a.Stat(ctx, "x"); return err }},
		{"open", "r", func(a *repo.Access) error {
			o, err := a.Open(ctx, "x")
			if err == nil {
				o.Close()
			}
			return err
		}},
		{"list", "l", func(a *repo.Access) error {
			return a.List(ctx, index.ListOptions{}, func(index.Entry) error { return nil })
		}},
		{"hash", "r", func(a *repo.Access) error { _, err := a.Hash(ctx, "x", sha); return err }},
		{"overwrite", "W", func(a *repo.Access) error { _, err := put(a, "x", "other"); return err }},
		{"new", "wW", func(a *repo.Access) error { _, err := put(a, "new", ""); return err }},
		{"mkdir", "w", func(a *repo.Access) error { return a.MakeDir(ctx, "d") }},
		{"rmdir", "wD", func(a *repo.Access) error { return a.RemoveDir(ctx, "d") }},
		{"delete", "D", func(a *repo.Access) error { return a.Delete(ctx, "x") }},
		{"delete of nothing", "D", func(a *repo.Access) error { return a.Delete(ctx, "missing") }},
	} {
		for _, letter := range "lrwWD" {
			mustPut(t, r.As(repo.Principal{}), "x", "something")
			err := test.do(r.As(repo.Principal{Permissions: permissions(t, fmt.Sprintf(`{"": "%c"}`, letter))}))
			allowed := strings.ContainsRune(test.needs, letter)
			var denied *repo.DeniedError
			if got := errors.As(err, &denied); got == allowed {
				t.Errorf("%s with %c: got %v, want allowed %v", test.name, letter, err, allowed)
			}
			if denied != nil && denied.Letters != test.needs && test.name != "overwrite" {
				t.Errorf("%s with %c: says %q is required, want %q", test.name, letter, denied.Letters, test.needs)
			}
			r.As(repo.Principal{}).Delete(ctx, "new")
		}
	}
}

// Each visits what List does, across pages, and its function may change the repository.
func TestEachMayUseTheRepository(t *testing.T) {
	a := newAccess(t, func(o *datadir.Options) { o.Dir = memoryDir(t) })
	const count = 1100 // more than two pages
	for i := range count {
		mustPut(t, a, fmt.Sprintf("d/%04d", i), "")
	}
	seen := 0
	err := a.Each(ctx, index.ListOptions{Dir: "d", Recursive: true}, func(e index.Entry) error {
		if want := fmt.Sprintf("d/%04d", seen); e.Key != want {
			t.Errorf("entry %d is %q, want %q", seen, e.Key, want)
		}
		seen++
		return a.Delete(ctx, e.Key)
	})
	if err != nil || seen != count || a.Repository().Usage().Items != 0 {
		t.Errorf("saw %d of %d, %v; %d items left", seen, count, err, a.Repository().Usage().Items)
	}
}

// A recursive listing shows what the principal may list, not what lies below.
func TestRecursiveListHidesWhatRulesHide(t *testing.T) {
	r := create(t, newSet(t, nil), "r")
	all := r.As(repo.Principal{})
	mustPut(t, all, "open/x", "1")
	mustPut(t, all, "secret/y", "2")
	some := r.As(repo.Principal{Permissions: permissions(t, `{"": "l", "secret": "w"}`)})
	if got := list(t, some, "", true); len(got) != 1 || got[0] != "open/x" {
		t.Errorf("got %q, want open/x alone", got)
	}
}

func TestReadersOutliveDeletion(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	a := create(t, s, "r").As(repo.Principal{})
	body := strings.Repeat("0123456789", 100_000)
	mustPut(t, a, "x", body)
	object, err := a.Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the blob to go", func() bool { placed, _ := blobFiles(t, filepath.Join(dir, "r")); return placed == 0 })
	section, err := object.Section(5, int64(len(body))-5)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(section)
	if err != nil || string(got) != body[5:] {
		t.Errorf("read %d bytes, %v after deletion; want %d", len(got), err, len(body)-5)
	}
}

// TestReplaceWhileReading: readers of an item that is replaced all the time see one whole version.
func TestReplaceWhileReading(t *testing.T) {
	a := newAccess(t, nil)
	versions := []string{strings.Repeat("a", 5000), strings.Repeat("b", 3000)}
	mustPut(t, a, "x", versions[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := get(a, "x"); err != nil || got != versions[0] && got != versions[1] {
					t.Errorf("got %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	for i := range 100 {
		mustPut(t, a, "x", versions[i%2])
	}
	close(stop)
	wg.Wait()
}

func TestLocksSurviveAndExpire(t *testing.T) {
	clock := fixedClock(time.Now())
	a := newAccess(t, func(o *datadir.Options) { o.Now = clock.Now })
	if _, err := a.AcquireLock(ctx, "repo-lock", "h1:1", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	held, err := a.AcquireLock(ctx, "repo-lock", "h2:1", nil, time.Hour)
	if !errors.Is(err, repo.ErrLocked) || held.Holder != "h1:1" {
		t.Errorf("second holder: got %+v, %v", held, err)
	}
	clock.Advance(50 * time.Minute)
	if _, err := a.AcquireLock(ctx, "repo-lock", "h1:1", nil, time.Hour); err != nil {
		t.Errorf("renewal: %v", err)
	}
	clock.Advance(50 * time.Minute)
	if locks, err := a.Locks(ctx); err != nil || len(locks) != 1 {
		t.Errorf("after renewal: got %v, %v", locks, err)
	}
	clock.Advance(time.Hour)
	if locks, err := a.Locks(ctx); err != nil || len(locks) != 0 {
		t.Errorf("after the TTL: got %v, %v", locks, err)
	}
	if _, err := a.AcquireLock(ctx, "repo-lock", "h2:1", nil, time.Hour); err != nil {
		t.Errorf("acquire of an expired lock: %v", err)
	}
	if err := a.ReleaseLock(ctx, "repo-lock", "h1:1"); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("release by another: got %v", err)
	}
	if err := a.ReleaseLock(ctx, "repo-lock", ""); err != nil {
		t.Error(err)
	}
	if err := a.ReleaseLock(ctx, "repo-lock", ""); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("release twice: got %v", err)
	}
}

// TestMixedLoad: many clients at once; afterwards counters, references and files agree.
func TestMixedLoad(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	a := create(t, s, "r").As(repo.Principal{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 100 {
				key := fmt.Sprintf("d%d/k%d", random.IntN(3), random.IntN(10))
				var err error
				switch random.IntN(4) {
				case 0, 1:
					_, err = put(a, key, strings.Repeat("x", random.IntN(2000)))
				case 2:
					err = a.Delete(ctx, key)
				case 3:
					err = a.Move(ctx, key, fmt.Sprintf("d%d/k%d", random.IntN(3), random.IntN(10)))
				}
				if err != nil && !errors.Is(err, repo.ErrNotFound) {
					t.Errorf("worker %d: %v", worker, err)
				}
			}
		})
	}
	wg.Wait()
	r := a.Repository()
	waitFor(t, "the trash to empty", func() bool { return r.Usage().TrashItems == 0 })
	if placed, incoming := blobFiles(t, filepath.Join(dir, "r")); int64(placed) != r.Usage().Items || incoming != 0 {
		t.Errorf("%d blobs and %d unfinished for %d items", placed, incoming, r.Usage().Items)
	}
}
