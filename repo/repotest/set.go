// Package repotest has helpers for tests of repositories: sets in new directories that are checked when they close, and functions that
// store and read an item in one line. It imports what any other package of the server may import.
package repotest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// NewSet makes an empty set in a fresh directory; change may alter its options.
func NewSet(t testing.TB, change func(*datadir.Options)) *datadir.Set {
	t.Helper()
	o := datadir.Options{Dir: t.TempDir()}
	if change != nil {
		change(&o)
	}
	s := datadir.Open(o)
	t.Cleanup(func() {
		Check(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// Check compares counters, references and records of all open repositories.
func Check(t testing.TB, s *datadir.Set) {
	t.Helper()
	opened := s.Opened()
	var used, reserved int64
	for _, r := range opened {
		u := r.Usage()
		used, reserved = used+u.Used, reserved+u.Reserved
	}
	if u := s.TotalUsage(); u.Used != used || u.Reserved != reserved {
		t.Errorf("total usage: used %d, reserved %d; the repositories %d, %d", u.Used, u.Reserved, used, reserved)
	}
	for name, r := range opened {
		if r.Health().ReadOnly {
			continue
		}
		report, err := r.CheckIndex(context.Background())
		if err != nil {
			t.Errorf("check of %q: %v", name, err)
			continue
		}
		if len(report.Problems) > 0 || report.Counted != report.Stored {
			t.Errorf("check of %q: counted %+v, stored %+v, problems %q", name, report.Counted, report.Stored, report.Problems)
		}
		if u := r.Usage(); u.Used != report.Counted.Counted() || u.Reserved != 0 {
			t.Errorf("usage of %q: used %d, reserved %d, counted %+v", name, u.Used, u.Reserved, report.Counted)
		}
	}
}

// NewAccess makes a repository and lets an almighty principal at it.
func NewAccess(t testing.TB, change func(*datadir.Options)) *repo.Access {
	t.Helper()
	return Create(t, NewSet(t, change), "r").As(repo.Principal{Name: "tester"})
}

// Create makes a repository.
func Create(t testing.TB, s *datadir.Set, name string) *repo.Repository {
	t.Helper()
	r, err := s.Create(context.Background(), name, "test")
	if err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
	return r
}

// Put stores an item.
func Put(a *repo.Access, key, body string) (repo.PutResult, error) {
	return a.Put(context.Background(), repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: int64(len(body))})
}

// MustPut is Put that does not fail.
func MustPut(t testing.TB, a *repo.Access, key, body string) repo.PutResult {
	t.Helper()
	result, err := Put(a, key, body)
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return result
}

// Get reads an item.
func Get(a *repo.Access, key string) (string, error) {
	object, err := a.Open(context.Background(), key)
	if err != nil {
		return "", err
	}
	defer object.Close()
	section, err := object.Section(0, object.Size())
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, section)
	return b.String(), err
}

// WantContent reads an item and compares it.
func WantContent(t testing.TB, a *repo.Access, key, want string) {
	t.Helper()
	if got, err := Get(a, key); err != nil || got != want {
		t.Errorf("get %q: got %.40q, %v; want %.40q", key, got, err, want)
	}
}

// List returns one level, directories with a trailing slash, or all items.
func List(t testing.TB, a *repo.Access, dir string, recursive bool) []string {
	t.Helper()
	keys := []string{}
	err := a.List(context.Background(), index.ListOptions{Dir: dir, Recursive: recursive}, func(e index.Entry) error {
		if e.Dir {
			e.Key += "/"
		}
		keys = append(keys, e.Key)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", dir, err)
	}
	return keys
}
