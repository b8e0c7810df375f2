package repotest

import (
	"context"
	"iter"
	"path/filepath"
	"testing"

	"packhouse/index"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// Seed makes a repository for clients of dialect in the data directory of o, with rows in its index that have no bytes behind them: for
// what never reads any. Each group is one commit. The repository is closed then, and nobody has o.Dir open.
func Seed(t testing.TB, o datadir.Options, name, dialect string, groups iter.Seq[[]index.Mutation]) {
	t.Helper()
	s := datadir.Open(o)
	if _, err := s.Create(context.Background(), name, dialect); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(filepath.Join(o.Dir, name, layout.IndexFile), index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for group := range groups {
		if _, err := x.Apply(context.Background(), group...); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
