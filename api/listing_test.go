package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

// watched is a Lister that tells whether a transaction of the index is open, and fails when it is to.
type watched struct {
	*repo.Access
	open  bool
	pages int
	fail  map[int]error // by number of the page, from 1
}

func (w *watched) Rows(ctx context.Context, o index.ListOptions, fn func(*index.Row) error) error {
	w.pages++
	if err := w.fail[w.pages]; err != nil {
		return err
	}
	w.open = true
	defer func() { w.open = false }()
	return w.Access.Rows(ctx, o, fn)
}

// withItems is a repository with n items below d/, without bytes behind them, and their keys.
func withItems(t *testing.T, n int) (a *repo.Access, keys []string) {
	t.Helper()
	dir := t.TempDir()
	var puts []index.Mutation
	for i := range n {
		keys = append(keys, fmt.Sprintf(`d/%02d/"%06d"`, i%100, i))
		puts = append(puts, index.Put{Key: keys[i], Limit: -1, Item: index.Item{Ref: fmt.Sprintf("%016d", i)}})
	}
	repotest.Seed(t, datadir.Options{Dir: dir, Single: true}, "", "vger", slices.Values([][]index.Mutation{puts}))
	s := datadir.Open(datadir.Options{Dir: dir, Single: true})
	t.Cleanup(func() { _ = s.Close() })
	r, err := s.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return r.As(repo.Principal{}), keys
}

// A listing of any length has all its keys, in pages that are sent outside of any transaction. What fits into the first
// page is not sent.
func TestListingPages(t *testing.T) {
	const first = 1000
	a, keys := withItems(t, 40_000)
	for _, dir := range []string{"d/07", "d"} {
		w := &watched{Access: a}
		var text []byte
		var sizes []int
		l := api.Listing{
			First: first,
			Append: func(page []byte, row *index.Row) []byte {
				if !w.open {
					t.Error("a row is appended outside of a transaction")
				}
				return api.AppendKey(append(page, ','), row)
			},
			Send: func(page []byte) error {
				if w.open {
					t.Error("a page is sent inside of a transaction")
				}
				text, sizes = append(text, page...), append(sizes, len(page))
				return nil
			},
		}
		err := l.Run(t.Context(), w, index.ListOptions{Dir: dir, Recursive: true}, func(last []byte, err error) error {
			text = append(text, last...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range sizes {
			if full := map[bool]int{true: first, false: 256 << 10}[i == 0]; size < full || size > full+100 {
				t.Errorf("%s: page %d has %d bytes, want %d", dir, i, size, full)
			}
		}
		var got []string
		if err := json.Unmarshal([]byte("["+strings.TrimPrefix(string(text), ",")+"]"), &got); err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !strings.HasPrefix(key, dir+"/") })
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d keys, want %d", dir, len(got), len(want))
		}
		if dir == "d" && len(sizes) < 3 {
			t.Errorf("got %d pages", len(sizes))
		}
	}
	few := api.Listing{First: first, Append: func(page []byte, row *index.Row) []byte { return append(page, 'x') }}
	err := few.Run(t.Context(), a, index.ListOptions{Dir: "d"}, func(last []byte, err error) error {
		if len(last) != 100 || err != nil { // without a Send
			t.Errorf("got %d bytes, %v, want 100", len(last), err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The end of a listing is told what went wrong: at the first page, later, and when a page is sent.
func TestListingFails(t *testing.T) {
	a, _ := withItems(t, 3000)
	mine := errors.New("mine")
	for name, c := range map[string]struct {
		fail  map[int]error
		send  error
		pages int // sent
	}{
		"first page": {fail: map[int]error{1: mine}},
		"later":      {fail: map[int]error{2: mine}, pages: 1},
		"sending":    {send: mine, pages: 1},
	} {
		sent := 0
		l := api.Listing{First: 10, Append: api.AppendKey, Send: func([]byte) error { sent++; return c.send }}
		err := l.Run(t.Context(), &watched{Access: a, fail: c.fail}, index.ListOptions{Dir: "d", Recursive: true}, func(_ []byte, err error) error {
			return fmt.Errorf("end: %w", err)
		})
		if !errors.Is(err, mine) || !strings.HasPrefix(err.Error(), "end: ") || sent != c.pages {
			t.Errorf("%s: got %v after %d pages, want %v after %d", name, err, sent, mine, c.pages)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, key := range []string{"", "a", `"`, `a"b""c"`, "é/ü", "<&>", "\u2028"} {
		for _, b := range [][]byte{api.AppendString([]byte(`["`)[:1], key), api.AppendString([]byte("["), []byte(key))} {
			var got []string
			if err := json.Unmarshal(append(b, ']'), &got); err != nil || len(got) != 1 || got[0] != key {
				t.Errorf("%q became %s: %q, %v", key, b, got, err)
			}
		}
	}
}
