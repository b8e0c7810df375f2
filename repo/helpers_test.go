package repo_test

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

// newSet makes an empty set in a fresh directory; change may alter its options.
func newSet(t testing.TB, change func(*datadir.Options)) *datadir.Set {
	t.Helper()
	o := datadir.Options{Dir: t.TempDir()}
	if change != nil {
		change(&o)
	}
	s := datadir.Open(o)
	t.Cleanup(func() {
		checkAll(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// checkAll compares counters, references and records of all open repositories.
func checkAll(t testing.TB, s *datadir.Set) {
	t.Helper()
	for name, r := range s.Opened() {
		if r.Health().ReadOnly {
			continue
		}
		report, err := r.Index().Check(context.Background())
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
		if counted, reserved, stored := repo.CommitBytes(t, r); counted != stored || reserved != 0 {
			t.Errorf("commit keys of %q: counted %d, reserved %d, stored %d", name, counted, reserved, stored)
		}
		if n := repo.Reserved(r); n != 0 {
			t.Errorf("%d bytes of the disk are still promised", n)
		}
	}
}

// newAccess makes a repository and lets an almighty principal at it.
func newAccess(t testing.TB, change func(*datadir.Options)) *repo.Access {
	t.Helper()
	return create(t, newSet(t, change), "r").As(repo.Principal{Name: "tester"})
}

func create(t testing.TB, s *datadir.Set, name string) *repo.Repository {
	t.Helper()
	r, err := s.Create(context.Background(), name, "test")
	if err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
	return r
}

func put(a *repo.Access, key, body string) (repo.PutResult, error) {
	return a.Put(context.Background(), repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: int64(len(body))})
}

func mustPut(t testing.TB, a *repo.Access, key, body string) repo.PutResult {
	t.Helper()
	result, err := put(a, key, body)
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return result
}

func get(a *repo.Access, key string) (string, error) {
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

func wantContent(t testing.TB, a *repo.Access, key, want string) {
	t.Helper()
	if got, err := get(a, key); err != nil || got != want {
		t.Errorf("get %q: got %.40q, %v; want %.40q", key, got, err, want)
	}
}

// list returns one level, directories with a trailing slash, or all items.
func list(t testing.TB, a *repo.Access, dir string, recursive bool) []string {
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
