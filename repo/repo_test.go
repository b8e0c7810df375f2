package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/digest"
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

func permissions(t testing.TB, text string) *repo.Permissions {
	t.Helper()
	p, err := repo.ParsePermissions(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPutThenReadBack(t *testing.T) {
	a := newAccess(t, nil)
	if r := mustPut(t, a, "dir/x", "hello"); !r.Created || r.Item.Size != 5 || r.Item.Writer != "tester" {
		t.Errorf("first put: got %+v", r)
	}
	wantContent(t, a, "dir/x", "hello")
	if r := mustPut(t, a, "dir/x", "hi"); r.Created || r.PreviousSize != 5 {
		t.Errorf("overwrite: got %+v", r)
	}
	wantContent(t, a, "dir/x", "hi")
	mustPut(t, a, "dir/empty", "")
	wantContent(t, a, "dir/empty", "")
}

func TestPutRefusals(t *testing.T) {
	sum := bytes.Repeat([]byte{1}, 32)
	for _, test := range []struct {
		name string
		req  repo.PutRequest
		want error
	}{
		{"digest", repo.PutRequest{Key: "k", Body: strings.NewReader("abc"), Size: 3, Expect: []repo.Expectation{{algorithm(t, "sha256"), sum}}}, repo.ErrDigest},
		{"short body", repo.PutRequest{Key: "k", Body: strings.NewReader("abc"), Size: 4}, repo.ErrIncomplete},
		{"long body", repo.PutRequest{Key: "k", Body: strings.NewReader("abc"), Size: 2}, repo.ErrIncomplete},
		{"broken body", repo.PutRequest{Key: "k", Body: io.MultiReader(strings.NewReader("abc"), brokenReader{}), Size: -1}, repo.ErrIncomplete},
		{"too large announced", repo.PutRequest{Key: "k", Body: strings.NewReader("abc"), Size: 3, MaxSize: 2}, repo.ErrTooLarge},
		{"too large streamed", repo.PutRequest{Key: "k", Body: strings.NewReader("abc"), Size: -1, MaxSize: 2}, repo.ErrTooLarge},
		{"key", repo.PutRequest{Key: "a/../k", Body: strings.NewReader(""), Size: 0}, repo.ErrInvalid},
		{"directory", repo.PutRequest{Key: "dir", Body: strings.NewReader(""), Size: 0}, repo.ErrIsDir},
		{"below an item", repo.PutRequest{Key: "dir/x/y", Body: strings.NewReader(""), Size: 0}, repo.ErrNotDir},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAccess(t, nil)
			mustPut(t, a, "dir/x", "1")
			if _, err := a.Put(ctx, test.req); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if got := list(t, a, "", true); len(got) != 1 || got[0] != "dir/x" {
				t.Errorf("items after the refusal: %q", got)
			}
		})
	}
}

// TestLongestKeys: what a blob says of itself has room for every key.
func TestLongestKeys(t *testing.T) {
	a := newAccess(t, nil)
	for _, character := range []string{"<", "\"", "é", "\u2028"} {
		key := strings.Repeat(character, repo.MaxKey/len(character))
		mustPut(t, a, key, character)
		wantContent(t, a, key, character)
	}
	if _, err := put(a, "packs/\xff", ""); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("a key that is not UTF-8: got %v, want ErrInvalid", err)
	}
}

// A body whose reader panics, as net/http's do when a handler is aborted, leaves neither bytes nor promises.
func TestPutSurvivesPanic(t *testing.T) {
	dir := t.TempDir()
	a := create(t, newSet(t, func(o *repo.SetOptions) {
		o.Dir = dir
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 10} }
	}), "r").As(repo.Principal{})
	for _, size := range []int64{10, -1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			a.Put(ctx, repo.PutRequest{Key: "x", Body: io.MultiReader(strings.NewReader("half"), panickingReader{}), Size: size})
		}()
	}
	if placed, incoming := blobFiles(t, filepath.Join(dir, "r")); placed != 0 || incoming != 0 {
		t.Errorf("%d blobs and %d unfinished are left", placed, incoming)
	}
	mustPut(t, a, "x", "0123456789")
}

type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("aborted") }

// A client that goes away during its body gets nothing stored, and keeps nothing reserved.
func TestPutCancelled(t *testing.T) {
	a := newAccess(t, nil)
	ctx, cancel := context.WithCancel(ctx)
	body := io.MultiReader(strings.NewReader("half"), cancellingReader(cancel), strings.NewReader("half"))
	if _, err := a.Put(ctx, repo.PutRequest{Key: "x", Body: body, Size: 8}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if got := list(t, a, "", true); len(got) != 0 {
		t.Errorf("it holds %q", got)
	}
}

type cancellingReader context.CancelFunc

func (c cancellingReader) Read([]byte) (int, error) { c(); return 0, io.EOF }

// Of many clients that may only write new items, one stores the key; those that send the same bytes are told so too.
func TestWriteOnceRace(t *testing.T) {
	r := create(t, newSet(t, nil), "r")
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	for round := range 10 {
		key := fmt.Sprintf("packs/%d", round)
		var wg sync.WaitGroup
		var mu sync.Mutex
		results := map[string][]repo.PutResult{}
		for i := range 12 {
			wg.Go(func() {
				body := fmt.Sprintf("body of group %d", i%3)
				result, err := put(a, key, body)
				var denied *repo.DeniedError
				if err != nil && (!errors.As(err, &denied) || !denied.Exists) {
					t.Errorf("put: got %v, want success or a DeniedError", err)
				}
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					results[body] = append(results[body], result)
				}
			})
		}
		wg.Wait()
		if len(results) != 1 {
			t.Fatalf("%d different bodies were acknowledged", len(results))
		}
		for body, all := range results {
			created := 0
			for _, result := range all {
				if !result.Unchanged {
					created++
				}
			}
			if created != 1 || len(all) != 4 {
				t.Errorf("%d acknowledged, %d of them stored; want 4 and 1", len(all), created)
			}
			wantContent(t, a, key, body)
		}
	}
	waitFor(t, "the losers' blobs to go", func() bool {
		placed, incoming := blobFiles(t, repo.Dir(r))
		return placed == 10 && incoming == 0
	})
}

// When a backup was last completed is kept for each writer, and survives a restart.
func TestFreshness(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := repo.SetOptions{Dir: dir, Environment: repo.Environment{Now: func() time.Time { return now }}}
	s := repo.OpenSet(o)
	r := create(t, s, "r")
	backup := func(writer, key, body string) {
		t.Helper()
		a := r.As(repo.Principal{Name: writer, Permissions: permissions(t, `{"": "lrw"}`)})
		if _, err := a.Put(ctx, repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: -1, Backup: true}); err != nil {
			t.Fatal(err)
		}
	}
	backup("laptop", "archives/1", "")
	now = now.Add(time.Hour)
	backup("server", "archives/2", "")
	now = now.Add(time.Hour)
	backup("laptop", "archives/1", "") // asked again: no new backup
	mustPut(t, r.As(repo.Principal{Name: "laptop"}), "packs/x", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = repo.OpenSet(o)
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"": r.Usage().LastBackup.Format(time.TimeOnly)}
	err = r.Index().Writers(func(f index.Freshness) error { got[f.Writer] = f.At.Format(time.TimeOnly); return nil })
	if want := map[string]string{"": "04:04:05", "laptop": "03:04:05", "server": "04:04:05"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// One file that cannot be unlinked does not keep the others.
func TestReclaimPassesOverWhatCannotBeRemoved(t *testing.T) {
	stuck := &stuckFS{FS: vfs.OS()}
	a := newAccess(t, func(o *repo.SetOptions) {
		o.FS = stuck
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Nanosecond} }
	})
	r := a.Repository()
	mustPut(t, a, "x", "")
	found, err := filepath.Glob(filepath.Join(repo.Dir(r), "blobs", "*", "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	stuck.name.Store(&found[0])
	for _, key := range []string{"y", "z"} {
		mustPut(t, a, key, "")
	}
	if _, err := a.DeleteAll(ctx, []string{"x", "y", "z"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the others to go", func() bool { return r.Usage().TrashItems == 1 })
	if rows := trash(t, r); len(rows) != 1 || rows[0].Key != "x" {
		t.Errorf("trash has %v, want x", rows)
	}
	stuck.name.Store(nil)
	if err := r.ReclaimSome(ctx); err != nil {
		t.Fatal(err)
	}
	if placed, _ := blobFiles(t, repo.Dir(r)); placed != 0 || r.Usage().TrashItems != 0 {
		t.Errorf("%d blobs are left, %d rows", placed, r.Usage().TrashItems)
	}
}

// stuckFS refuses to remove one file.
type stuckFS struct {
	vfs.FS
	name atomic.Pointer[string]
}

func (s *stuckFS) Remove(name string) error {
	if stuck := s.name.Load(); stuck != nil && *stuck == name {
		return &os.PathError{Op: "remove", Path: name, Err: syscall.EPERM}
	}
	return s.FS.Remove(name)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestWriteOnceRetry: who may write but not overwrite gets success for bytes that are there.
func TestWriteOnceRetry(t *testing.T) {
	s := newSet(t, nil)
	r := create(t, s, "r")
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	mustPut(t, a, "packs/x", "content")
	if result := mustPut(t, a, "packs/x", "content"); !result.Unchanged {
		t.Errorf("same bytes again: got %+v", result)
	}
	for _, body := range []string{"CONTENT", "contents", "conten", ""} {
		var denied *repo.DeniedError
		if _, err := put(a, "packs/x", body); !errors.As(err, &denied) || !denied.Exists || denied.Letters != "W" {
			t.Errorf("other bytes %q: got %v, want a DeniedError for W", body, err)
		}
		if _, err := a.Put(ctx, repo.PutRequest{Key: "packs/x", Body: strings.NewReader(body), Size: -1}); !errors.As(err, &denied) {
			t.Errorf("other bytes %q of unknown length: got %v", body, err)
		}
	}
	wantContent(t, a, "packs/x", "content")
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
	a := newAccess(t, func(o *repo.SetOptions) { o.Dir = memoryDir(t) })
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

// TestQuotaRace: however many clients, usage never passes the limit, and what fits is admitted.
func TestQuotaRace(t *testing.T) {
	const size, fits = 1000, 20
	a := newAccess(t, func(o *repo.SetOptions) {
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
	a := newAccess(t, func(o *repo.SetOptions) {
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
	if _, err := put(a, "a", strings.Repeat("z", 60)); !errors.As(err, &q) {
		t.Errorf("shrinking, but still above the limit: got %v", err)
	}
	if _, err := a.Put(ctx, repo.PutRequest{Key: "a", Body: strings.NewReader(strings.Repeat("z", 50)), Size: -1}); err != nil {
		t.Errorf("shrinking to the limit, of unknown length: %v", err)
	}
	mustPut(t, a, "a", strings.Repeat("z", 50))
	if err := a.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if u := a.Repository().Usage(); u.Used != 0 || u.Exempt != 25 || u.Limit != 50 {
		t.Errorf("got %+v", u)
	}
}

func TestTrashRestoresWithinGrace(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	a := newAccess(t, func(o *repo.SetOptions) {
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "x", "first")
	mustPut(t, a, "x", "second")
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	removed := map[string]index.Removed{}
	if err := r.Trash(func(row index.Removed) error { removed[fmt.Sprint(row.Item.Size)] = row; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(removed) != 2 {
		t.Fatalf("trash has %d rows, want 2", len(removed))
	}
	if _, err := r.Restore(ctx, removed["5"].ID, "x"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "x", "first")
	if _, err := r.Restore(ctx, removed["6"].ID, ""); !errors.Is(err, repo.ErrExists) {
		t.Errorf("restore over an item: got %v", err)
	}
	if _, err := r.Restore(ctx, removed["6"].ID, "y/z"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "y/z", "second")
	if _, err := r.Restore(ctx, removed["6"].ID, "again"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("restore twice: got %v", err)
	}

	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	mustPut(t, a, "other", "") // a change of the trash wakes the reclaimer
	if err := a.Delete(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the expired rows to go", func() bool { return r.Usage().TrashItems == 1 })
	wantContent(t, a, "y/z", "second")
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited 5 s for %s", what)
}

// blobFiles counts the files of blobs in a repository's directory.
func blobFiles(t testing.TB, dir string) (placed, incoming int) {
	t.Helper()
	count := func(pattern string) int {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	return count("blobs/*/*"), count("incoming/*")
}

func TestReadersOutliveDeletion(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *repo.SetOptions) { o.Dir = dir })
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

func TestDamageShowsAndHeals(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *repo.SetOptions) { o.Dir = dir })
	r := create(t, s, "r")
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	mustPut(t, a, "x", "precious")
	found, err := filepath.Glob(filepath.Join(dir, "r", "blobs", "*", "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	f, err := os.OpenFile(found[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("P"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	entry, err := a.Stat(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry); !errors.Is(err, repo.ErrCorrupt) {
		t.Fatalf("verify: got %v", err)
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get of a damaged item: got %v", err)
	}
	if _, err := put(a, "x", "Precious"); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("mending with other bytes: got %v", err)
	}
	if err := r.Verify(ctx, entry); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("verify again: got %v", err)
	}
	mustPut(t, a, "x", "precious")
	wantContent(t, a, "x", "precious")
}

// An item whose file somebody has brought back is served again once it was verified.
func TestRepairedFileIsServedAgain(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *repo.SetOptions) { o.Dir = dir })
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	mustPut(t, a, "x", "precious")
	found, err := filepath.Glob(filepath.Join(dir, "r", "blobs", "*", "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	verify := func() error {
		entry, err := a.Stat(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		return r.Verify(ctx, entry)
	}
	if err := os.Rename(found[0], found[0]+".away"); err != nil {
		t.Fatal(err)
	}
	if err := verify(); !errors.Is(err, repo.ErrCorrupt) {
		t.Fatalf("verify of a missing file: got %v, want ErrCorrupt", err)
	}
	if err := os.Rename(found[0]+".away", found[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := get(a, "x"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get before it was verified: got %v, want ErrCorrupt", err)
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, a, "x", "precious")
}

// A quota that cannot be read is not "no quota".
func TestUnreadableQuotaIsRefused(t *testing.T) {
	dir := newRepository(t)
	s := repo.OpenSet(repo.SetOptions{Dir: dir})
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
	s = repo.OpenSet(repo.SetOptions{Dir: dir})
	defer s.Close()
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get: got %v, want ErrCorrupt", err)
	}
}

// What no longer fits stays in the trash until there is room.
func TestRestoreMeetsTheQuota(t *testing.T) {
	a := newAccess(t, func(o *repo.SetOptions) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 100, Grace: time.Hour} }
	})
	r := a.Repository()
	mustPut(t, a, "x", strings.Repeat("x", 60))
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "y", strings.Repeat("y", 60))
	id := trash(t, r)[0].ID
	var quota *repo.QuotaError
	if _, err := r.Restore(ctx, id, ""); !errors.As(err, &quota) || quota.Wanted != 120 || quota.Limit != 100 {
		t.Errorf("restore into a full repository: got %v, want a QuotaError", err)
	}
	if err := r.SetQuota(ctx, 120); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(ctx, id, ""); err != nil {
		t.Error(err)
	}
	wantContent(t, a, "x", strings.Repeat("x", 60))
	if u := r.Usage(); u.Used != 120 || u.TrashItems != 0 || u.TrashBytes != 0 {
		t.Errorf("usage: %+v", u)
	}
}

func TestSetLifeCycle(t *testing.T) {
	s := newSet(t, nil)
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("get before create: got %v", err)
	}
	for range 3 { // create, destroy and create again in quick succession
		r := create(t, s, "r")
		if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrExists) {
			t.Errorf("create twice: got %v", err)
		}
		a := r.As(repo.Principal{})
		mustPut(t, a, "x", "1")
		if err := s.Destroy(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		if _, err := put(a, "y", "2"); !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("put into a destroyed repository: got %v", err)
		}
		if err := s.Destroy(ctx, "r"); !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("destroy twice: got %v", err)
		}
	}
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "-", strings.Repeat("x", 129), "ü"} {
		if _, err := s.Create(ctx, name, "test"); !errors.Is(err, repo.ErrInvalid) {
			t.Errorf("create %q: got %v, want ErrInvalid", name, err)
		}
	}
	create(t, s, "b")
	create(t, s, "a")
	if names, err := s.Names(); err != nil || fmt.Sprint(names) != "[a b]" {
		t.Errorf("names: got %q, %v", names, err)
	}
}

// TestLostIndexIsNotOverwritten: without its index a repository looks like one whose creation was interrupted, but for
// its blobs. Creating it anew would be deleting it.
func TestLostIndexIsNotOverwritten(t *testing.T) {
	dir := newRepository(t)
	s := repo.OpenSet(repo.SetOptions{Dir: dir})
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "x", "precious")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "r")
	if err := os.Remove(filepath.Join(path, "index.db")); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, func(o *repo.SetOptions) { o.Dir = dir })
	if _, err := s.Get(ctx, "r"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get: got %v, want ErrCorrupt", err)
	}
	if _, err := s.Create(ctx, "r", "test"); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("create: got %v, want ErrCorrupt", err)
	}
	if _, err := repo.Rebuild(ctx, repo.Environment{}, path, repo.RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	wantContent(t, r.As(repo.Principal{}), "x", "precious")
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		want  string
	}{
		"a python-made store": {[]string{"config/readme", "keys/x", "packs/x"}, "another server"},
		"vykar's":             {[]string{"config", "index", "snapshots/x"}, "vykar-server"},
		"anything":            {[]string{"thesis.tex"}, "thesis.tex"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range test.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := newSet(t, func(o *repo.SetOptions) { o.Dir, o.Single = dir, true })
			for op, do := range map[string]func() error{
				"get":    func() error { _, err := s.Get(ctx, ""); return err },
				"create": func() error { _, err := s.Create(ctx, "", "test"); return err },
			} {
				err := do()
				if !errors.Is(err, repo.ErrForeign) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), dir) {
					t.Errorf("%s: got %v, want ErrForeign that mentions %q", op, err, test.want)
				}
			}
			for _, file := range test.files {
				if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestLocksSurviveAndExpire(t *testing.T) {
	now := time.Now()
	a := newAccess(t, func(o *repo.SetOptions) { o.Now = func() time.Time { return now } })
	if _, err := a.AcquireLock(ctx, "repo-lock", "h1:1", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	held, err := a.AcquireLock(ctx, "repo-lock", "h2:1", nil, time.Hour)
	if !errors.Is(err, repo.ErrLocked) || held.Holder != "h1:1" {
		t.Errorf("second holder: got %+v, %v", held, err)
	}
	now = now.Add(50 * time.Minute)
	if _, err := a.AcquireLock(ctx, "repo-lock", "h1:1", nil, time.Hour); err != nil {
		t.Errorf("renewal: %v", err)
	}
	now = now.Add(50 * time.Minute)
	if locks, err := a.Locks(ctx); err != nil || len(locks) != 1 {
		t.Errorf("after renewal: got %v, %v", locks, err)
	}
	now = now.Add(time.Hour)
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
	s := newSet(t, func(o *repo.SetOptions) { o.Dir = dir })
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
