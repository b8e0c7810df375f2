package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/keys"
)

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

// TestLongestKeys: what a blob says of itself can hold every key.
func TestLongestKeys(t *testing.T) {
	a := newAccess(t, nil)
	for _, character := range []string{"<", "\"", "é", "\u2028"} {
		key := strings.Repeat(character, keys.Max/len(character))
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
	a := create(t, newSet(t, func(o *datadir.Options) {
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
	clock := fixedClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	o := datadir.Options{Dir: dir, Environment: repo.Environment{Now: clock.Now}}
	s := datadir.Open(o)
	r := create(t, s, "r")
	backup := func(writer, key, body string) {
		t.Helper()
		a := r.As(repo.Principal{Name: writer, Permissions: permissions(t, `{"": "lrw"}`)})
		if _, err := a.Put(ctx, repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: -1, Backup: true}); err != nil {
			t.Fatal(err)
		}
	}
	backup("laptop", "archives/1", "")
	clock.Advance(time.Hour)
	backup("server", "archives/2", "")
	clock.Advance(time.Hour)
	backup("laptop", "archives/1", "") // asked again: no new backup
	mustPut(t, r.As(repo.Principal{Name: "laptop"}), "packs/x", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = datadir.Open(o)
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"": r.Usage().LastBackup.Format(time.TimeOnly)}
	err = repo.IndexOf(r).Writers(func(f index.Freshness) error { got[f.Writer] = f.At.Format(time.TimeOnly); return nil })
	if want := map[string]string{"": "04:04:05", "laptop": "03:04:05", "server": "04:04:05"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
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

// Bytes sent again are "there already" only if they can still be read: else the upload mends the item.
func TestWriteOnceMendsWhatIsGone(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing":   os.Remove,
		"cut short": func(path string) error { return os.Truncate(path, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
			a := create(t, s, "r").As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
			mustPut(t, a, "packs/x", "precious")
			found := blobPaths(t, filepath.Join(dir, "r"))
			if len(found) != 1 {
				t.Fatal(found)
			}
			if err := damage(found[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := put(a, "packs/x", "Precious"); !errors.Is(err, repo.ErrDenied) {
				t.Errorf("other bytes: got %v, want ErrDenied", err)
			}
			mustPut(t, a, "packs/x", "precious")
			wantContent(t, a, "packs/x", "precious")
		})
	}
}

// TestManyDirectoriesGiveWay: a name is not made unusable with more directories than one commit removes: not for an upload, a move or a restore.
// With an item among them they stay.
func TestManyDirectoriesGiveWay(t *testing.T) {
	a, _ := newTrash(t, "test", -1, -1)
	r := a.Repository()
	mustPut(t, a, "removed", "removed")
	if err := a.Delete(ctx, "removed"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "old", "moved")
	for key, store := range map[string]func() error{
		"put":     func() error { _, err := put(a, "put", "put"); return err },
		"moved":   func() error { return a.Move(ctx, "old", "moved") },
		"removed": func() error { _, err := r.Restore(ctx, trash(t, r)[0].ID, ""); return err },
	} {
		var muts []index.Mutation
		for i := range 5000 {
			muts = append(muts, index.MakeDir{Key: fmt.Sprintf("%s/%d", key, i)})
		}
		if _, err := repo.IndexOf(r).Apply(ctx, muts...); err != nil {
			t.Fatal(err)
		}
		mustPut(t, a, key+"/x/y", "an item")
		if err := store(); !errors.Is(err, repo.ErrIsDir) {
			t.Errorf("%s over an item: got %v, want ErrIsDir", key, err)
		}
		if entry, err := a.Stat(ctx, key+"/4999"); err != nil || !entry.Dir {
			t.Errorf("%s: got %+v, %v, want the directories", key, entry, err)
		}
		if err := a.Move(ctx, key+"/x/y", "elsewhere/"+key); err != nil {
			t.Fatal(err)
		}
		if err := store(); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		wantContent(t, a, key, key)
	}
}
