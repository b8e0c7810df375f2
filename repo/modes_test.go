package repo_test

import (
	"errors"
	"testing"

	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo"
)

// modes are the two places where small items lie, as values of repo.Environment.Small.
var modes = []struct {
	name  string // with a slash, for the names of tests
	small int64
}{{"files/", 0}, {"log/", index.MaxPayload}}

// inFiles is how many items, also of those in the trash, have a file of their own.
func inFiles(t testing.TB, r *repo.Repository) (n int) {
	t.Helper()
	count := func(item index.Item) {
		if _, inLog := journal.ParseRef(item.Ref); !inLog {
			n++
		}
	}
	err := errors.Join(
		repo.IndexOf(r).List(ctx, index.ListOptions{Recursive: true}, func(e index.Entry) error {
			count(e.Item)
			return nil
		}),
		r.Trash(func(row index.Removed) error {
			count(row.Item)
			return nil
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
