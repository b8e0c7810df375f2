package repo_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestRewrittenSnapshotsAreNoBackups: a snapshot that replaces another one under the same lock is none; one that is followed by a deletion under
// another lock, or by a client that takes no locks, is.
func TestRewrittenSnapshotsAreNoBackups(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps string // of the principal "p", or of another one after "o:"; each a minute after the one before
		want  int    // the step that is the last backup of all
		wantP int    // of p
	}{
		{"backup", "+locks/a +snapshots/1 -locks/a", 2, 2},
		{"tag", "+locks/a +snapshots/1 -locks/a +locks/b +snapshots/2 -snapshots/1 -locks/b", 2, 2},
		{"two rewritten one by one", "+locks/a +snapshots/1 +snapshots/2 -locks/a +locks/b +snapshots/3 -snapshots/1 +snapshots/4 -snapshots/2 -locks/b", 3, 3},
		{"two rewritten, then deleted", "+locks/a +snapshots/1 -locks/a +locks/b +snapshots/3 +snapshots/4 -snapshots/1 -locks/b", 2, 2},
		{"tag of the first", "+locks/a +snapshots/1 -snapshots/0 -locks/a", 0, 0},
		{"forget after a backup", "+locks/a +snapshots/1 -locks/a +locks/b -snapshots/1 -locks/b", 2, 2},
		{"a lock that was renewed", "+locks/a +locks/b -locks/a +snapshots/1 -snapshots/0 -locks/b", 0, 0},
		{"by another", "+locks/a +snapshots/1 o:-snapshots/1 -locks/a", 2, 2},
		{"beside another's backup", "+locks/a +snapshots/1 o:+snapshots/2 -snapshots/0 -locks/a", 3, 0},
		{"without locks", "+snapshots/1 -snapshots/0", 1, 1},
		{"without locks beside another's", "o:+locks/a +snapshots/1 -snapshots/0", 2, 2},
		{"a failed upload", "+locks/a +snapshots/1 -snapshots/1 +snapshots/1 -locks/a", 4, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newDialect(t, "restic", func(o *datadir.Options) { o.Environment.Now = time.Now })
				other := p.Repository().As(repo.Principal{Name: "other"})
				mustPut(t, other, "snapshots/0", "adopted") // by nobody
				began := time.Now()
				for i, step := range strings.Fields(tt.steps) {
					time.Sleep(time.Minute)
					a := p
					if of, ok := strings.CutPrefix(step, "o:"); ok {
						a, step = other, of
					}
					var err error
					if key := step[1:]; step[0] == '+' {
						_, err = a.Put(ctx, repo.PutRequest{
							Key: key, Body: strings.NewReader(key), Size: -1, Immutable: true, Backup: p.Repository().IsSnapshot(key),
						})
					} else {
						err = a.Delete(ctx, key)
					}
					if err != nil {
						t.Fatalf("step %d, %s: %v", i+1, step, err)
					}
				}
				minute := func(at time.Time) int {
					if at.IsZero() {
						return 0
					}
					return int(at.Sub(began) / time.Minute)
				}
				var of time.Time
				if err := repo.IndexOf(p.Repository()).Writers(func(f index.Freshness) error {
					if f.Writer == "tester" {
						of = f.At
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if all := minute(p.Repository().Usage().LastBackup); all != tt.want || minute(of) != tt.wantP {
					t.Errorf("the last backup is that of step %d, and of the principal of step %d, want %d and %d", all, minute(of), tt.want, tt.wantP)
				}
			})
		})
	}
}

// TestRewritesOfOneClient: what one machine removes takes nothing back that another has completed with the same token.
func TestRewritesOfOneClient(t *testing.T) {
	for dialect, removes := range map[string]func(a *repo.Access, key string) error{
		"borgstore": func(a *repo.Access, key string) error { return a.Move(ctx, key, key+".del") },
		"restic":    func(a *repo.Access, key string) error { return a.Delete(ctx, key) },
	} {
		t.Run(dialect, func(t *testing.T) {
			clock := fixedClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			s := newSet(t, func(o *datadir.Options) { o.Now = clock.Now })
			r, err := s.Create(ctx, "r", dialect)
			if err != nil {
				t.Fatal(err)
			}
			dir := map[string]string{"borgstore": "archives/", "restic": "snapshots/"}[dialect]
			one, two := r.As(repo.Principal{Name: "token", Address: "10.0.0.1"}), r.As(repo.Principal{Name: "token", Address: "10.0.0.2"})
			backup := func(a *repo.Access, key string) {
				t.Helper()
				clock.Advance(time.Hour)
				if _, err := a.Put(ctx, repo.PutRequest{Key: dir + key, Body: strings.NewReader(key), Size: -1, Backup: true}); err != nil {
					t.Fatal(err)
				}
			}
			expect := func(what, want string) {
				t.Helper()
				writers, err := r.Writers()
				got := make(map[string]string)
				for _, w := range writers {
					got[w.Writer] = w.At.Format(time.TimeOnly)
				}
				if err != nil || !maps.Equal(got, map[string]string{"token": want}) || r.Usage().LastBackup.Format(time.TimeOnly) != want {
					t.Errorf("%s: got %v and %v, %v, want %s", what, got, r.Usage().LastBackup, err, want)
				}
			}
			backup(one, "a")
			mustPut(t, one, "locks/one", "{}")
			backup(one, "b")
			mustPut(t, two, "locks/two", "{}")
			if err := removes(two, dir+"a"); err != nil {
				t.Fatal(err)
			}
			expect("another machine removes", "05:04:05")
			if err := removes(one, dir+"b"); err != nil {
				t.Fatal(err)
			}
			expect("the same machine removes under the same lock", "04:04:05")
		})
	}
}
