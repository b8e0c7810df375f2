package repo_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"packhouse/repo"
)

// TestFinal: W on a key is not enough to overwrite an item that is stored once at most, for who is append-only.
func TestFinal(t *testing.T) {
	ctx := context.Background()
	appends := `{"": "lrw", "manifest": "lrwW"}`
	for name, test := range map[string]struct {
		permissions string
		final       bool
		replaces    bool
	}{
		"append-only":             {appends, true, false},
		"append-only, not final":  {appends, false, true},
		"only to overwrite":       {`{"": "lr", "manifest": "W"}`, true, false},
		"may delete":              {`{"": "lrwWD"}`, true, true},
		"may delete but the key":  {`{"": "lrwWD", "manifest": "lrwW"}`, true, true},
		"may delete the key only": {`{"": "lrw", "manifest": "lrwWD"}`, true, false},
		"everything":              {"null", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := create(t, newSet(t, nil), "r")
			a := r.As(repo.Principal{Permissions: permissions(t, test.permissions)})
			store := func(body io.Reader) error {
				_, err := a.Put(ctx, repo.PutRequest{Key: "manifest", Body: body, Size: -1, Final: test.final})
				return err
			}
			want := func(err error, replaces bool) {
				t.Helper()
				denied, ok := errors.AsType[*repo.DeniedError](err)
				if replaces && err != nil || !replaces && (!ok || !denied.Exists) {
					t.Errorf("got %v, want it to be replaced: %v", err, replaces)
				}
			}
			want(store(strings.NewReader("old")), true) // none is there
			want(store(strings.NewReader("old")), true) // the answer was lost
			want(store(strings.NewReader("new")), test.replaces)
			if err := r.As(repo.Principal{}).Delete(ctx, "manifest"); err != nil {
				t.Fatal(err)
			}
			// Another client stores it while this one sends its own.
			other := readerFunc(func([]byte) (int, error) {
				if _, err := put(r.As(repo.Principal{}), "manifest", "other"); err != nil {
					return 0, err
				}
				return 0, io.EOF
			})
			want(store(io.MultiReader(strings.NewReader("mine"), other)), test.replaces)
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestBatchDeleteOfAppendOnly: who may not delete a snapshot deletes one by one, also what it may delete.
func TestBatchDeleteOfAppendOnly(t *testing.T) {
	ctx := context.Background()
	r := create(t, newSet(t, nil), "r")
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw", "locks": "lrwWD"}`)})
	for _, key := range []string{"locks/a", "locks/b"} {
		if _, err := put(a, key, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := a.DeleteAll(ctx, nil); err != nil || n != 0 {
		t.Errorf("of none: got %d, %v", n, err)
	}
	var denied *repo.DeniedError
	if _, err := a.DeleteAll(ctx, []string{"locks/a", "locks/b"}); !errors.As(err, &denied) || denied.Key != "locks/a" {
		t.Errorf("got %v, want a DeniedError about the first", err)
	}
	if err := a.Delete(ctx, "locks/a"); err != nil {
		t.Errorf("one by one: %v", err)
	}
	if n, err := r.As(repo.Principal{}).DeleteAll(ctx, []string{"locks/a", "locks/b"}); err != nil || n != 1 {
		t.Errorf("with all rights: got %d, %v, want the one that is left", n, err)
	}
}
