package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"packhouse/repo"
)

// Every error that package repo names has a status and a type of its own here.
func TestEveryErrorIsMapped(t *testing.T) {
	seen := make(map[string]bool)
	for _, err := range repo.All {
		p := describe(fmt.Errorf("wrapped: %w", err))
		if p.Type == "about:blank" || p.Status == 0 || p.Title == "" {
			t.Errorf("%v: got %+v", err, p)
		}
		if seen[p.Type] {
			t.Errorf("%v: %s is taken", err, p.Type)
		}
		seen[p.Type] = true
	}
	if p := describe(errors.New("open /srv/secret: bad")); p.Status != 500 || p.Type != "about:blank" || p.Detail == "open /srv/secret: bad" {
		t.Errorf("unknown error: got %+v", p)
	}
	file := &fs.PathError{Op: "write", Path: "/srv/secret", Err: errors.New("I/O error")}
	for _, kind := range []error{repo.ErrReadOnly, repo.ErrNoSpace} {
		p := describe(fmt.Errorf("put: %w: %w", kind, file))
		if p.Detail != kind.Error() || p.Type == "about:blank" {
			t.Errorf("%v: got %+v", kind, p)
		}
	}
}
