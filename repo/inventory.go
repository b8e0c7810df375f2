package repo

import (
	"context"
	"errors"

	"packhouse/index"
)

// What the other parts of the server (checks, jobs, maintenance, statistics) read of the index. No permission is looked at, and errors
// are those of errors.go.

// CheckIndex reads every page and row of the index and compares them with each other. It can be cancelled.
func (r *Repository) CheckIndex(ctx context.Context) (index.CheckReport, error) {
	report, err := r.index.Check(ctx)
	return report, r.translate(err)
}

// Items calls fn for the items whose keys follow after, in their order; "" is before all. An error of fn ends the walk and is returned.
// fn must not change the repository.
func (r *Repository) Items(ctx context.Context, after string, fn func(index.Entry) error) error {
	return r.translate(r.index.List(ctx, index.ListOptions{Recursive: true, After: after}, fn))
}

// Empty tells whether the repository has neither an item nor a directory.
func (r *Repository) Empty(ctx context.Context) (bool, error) {
	found := errors.New("found")
	err := r.index.List(ctx, index.ListOptions{}, func(index.Entry) error { return found })
	if errors.Is(err, found) {
		return false, nil
	}
	return err == nil, r.translate(err)
}

// LogStatus is that of the index, in constant time.
func (r *Repository) LogStatus() index.LogStatus { return r.index.LogStatus() }

// CountersOf are those of what lies below a top-level directory, in constant time: items, bytes and what is missing of them; zero when there is none.
func (r *Repository) CountersOf(top string) (index.Counters, error) {
	c, err := r.index.DirCounters(top)
	return c, r.translate(err)
}

// Meta is a value that SetMeta stored; nil when there is none.
func (r *Repository) Meta(name string) ([]byte, error) {
	value, err := r.index.Meta(name)
	return value, r.translate(err)
}
