package datadir_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

func mustCreate(t *testing.T, s *datadir.Set, name string) {
	t.Helper()
	if _, err := s.Create(ctx, name, "restic"); err != nil {
		t.Fatal(err)
	}
}

// TestNamesInTwoForms: there is one repository at most of names that are the same text to Unicode, however they are made.
func TestNamesInTwoForms(t *testing.T) {
	const composed, decomposed = "b\u00fcro/a", "bu\u0308ro/a"
	s := newSet(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, repo.ErrInvalid) || !strings.Contains(err.Error(), `another form of Unicode: it is "bu\u0308ro/a", and this is "b\u00fcro/a"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	mustCreate(t, s, decomposed)
	_, err := s.Create(ctx, composed, "restic")
	refused("create", err)
	refused("adopt", s.BeginAdoption(composed, "/elsewhere"))
	mustCreate(t, s, "b\u00fcro/b")
	if _, err := s.Create(ctx, decomposed, "restic"); !errors.Is(err, repo.ErrExists) {
		t.Errorf("the same once more: %v", err)
	}
	if err := s.Destroy(ctx, "b\u00fcro/b"); err != nil {
		t.Fatal(err)
	}
	_, err = s.RestoreRemoved(ctx, "b\u00fcro/b", composed)
	refused("restore", err)

	if err := s.Destroy(ctx, decomposed); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, s, composed)
	if _, err := s.RestoreRemoved(ctx, decomposed, ""); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("restore of what was destroyed before: %v", err)
	}
	mustCreate(t, s, "\u212a") // the sign of the unit kelvin, which Unicode calls the same as K
	if _, err := s.Create(ctx, "K", "restic"); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("K: %v", err)
	}
	mustCreate(t, s, "k")
	mustCreate(t, s, "\u0430") // Cyrillic: another text, which looks like the next
	mustCreate(t, s, "a")
}

// TestNamesInTwoFormsAtOnce: of two that are created at once one is.
func TestNamesInTwoFormsAtOnce(t *testing.T) {
	s := newSet(t, nil)
	for range 10 {
		var clients sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for _, name := range []string{"\u00e9", "e\u0301"} {
			clients.Go(func() {
				_, err := s.Create(ctx, name, "restic")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					made++
				case !errors.Is(err, repo.ErrInvalid):
					t.Errorf("%+q: %v", name, err)
				}
			})
		}
		clients.Wait()
		if made != 1 {
			t.Fatalf("%d were created, want one", made)
		}
		names, err := s.Names()
		if err != nil || len(names) != 1 {
			t.Fatalf("%q, %v", names, err)
		}
		if err := s.Destroy(ctx, names[0]); err != nil {
			t.Fatal(err)
		}
	}
}
