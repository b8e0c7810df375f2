package tokens_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/api/tokens"
	"packhouse/blobstore/vfs"
)

func always() error { return nil }

// usesOf is the file of uses beside that of tokens; "": there is none.
func usesOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "tokens-used.json"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// TestUse: the last use of a token is known at once, written behind, and known after a restart.
func TestUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.json")
		s := open(t, tokens.Options{Path: path, MayRecord: always})
		made, secret := create(t, s, backup("a"))
		never, _ := create(t, s, backup("never"))
		gone, goneSecret := create(t, s, backup("gone"))
		begun := time.Now().UTC()
		find := func(secret string) {
			t.Helper()
			if _, err := s.Find(secret); err != nil {
				t.Fatal(err)
			}
		}
		used := func(token tokens.Token, last, since time.Time) {
			t.Helper()
			if u := s.Use(token); !u.Last.Equal(last.Truncate(time.Second)) || !u.Since.Equal(since) {
				t.Errorf("%s: got %v, want %v and %v", token.Name, u, last, since)
			}
		}
		used(made, time.Time{}, begun)
		time.Sleep(time.Hour)
		first := time.Now()
		find(secret)
		find(goneSecret)
		used(made, first, begun)
		used(never, time.Time{}, begun)
		if text := usesOf(t, path); strings.Contains(text, made.ID) {
			t.Errorf("a use is written at once: %s", text)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := usesOf(t, path); !strings.Contains(text, made.ID) || strings.Contains(text, never.ID) || strings.Contains(text, secret) {
			t.Errorf("a minute later: %s", text)
		}
		if info, err := os.Stat(filepath.Join(filepath.Dir(path), "tokens-used.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file: %v, %v; want mode 0600", info.Mode(), err)
		}
		before := usesOf(t, path)
		time.Sleep(3 * time.Minute)
		find(secret)
		used(made, first, begun) // within five minutes
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if after := usesOf(t, path); after != before {
			t.Errorf("a use within five minutes was written: %s", after)
		}
		second := time.Now()
		find(secret)
		used(made, second, begun)
		if _, err := s.Revoke("gone"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Find(goneSecret); err == nil {
			t.Error("a revoked token is accepted")
		}

		crashed := open(t, tokens.Options{Path: path, MayRecord: always})
		if u := crashed.Use(made); !u.Last.Equal(first.Truncate(time.Second)) || !u.Since.Equal(begun) {
			t.Errorf("after a crash: got %v, want what was written, %v", u, first)
		}
		crashed.Close()
		s.Close()
		find(secret)
		s.Close()
		s = open(t, tokens.Options{Path: path, MayRecord: always})
		used(made, second, begun)
		used(never, time.Time{}, begun)
		if text := usesOf(t, path); strings.Contains(text, gone.ID) {
			t.Errorf("a revoked token is still there: %s", text)
		}

		// A clock that was set back does not keep later uses from being seen.
		s.Close()
		early := time.Now().Add(-24 * time.Hour)
		s = open(t, tokens.Options{Path: path, MayRecord: always, Now: func() time.Time { return early }})
		find(secret)
		used(made, early, begun)
		// What another process has changed meanwhile is not forgotten.
		other := open(t, tokens.Options{Path: path, MayRecord: always})
		if _, err := other.Find(secret); err != nil {
			t.Fatal(err)
		}
		last := other.Use(made).Last
		other.Close()
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		used(made, last, begun)
		later, _ := create(t, s, backup("later"))
		used(later, time.Time{}, begun) // by its clock it is older than the record
		s.Close()
	})
}

// TestUseWithoutRecord: a process that does not write reads what there is, and a file that was lost is no fault.
func TestUseWithoutRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.json")
		s := open(t, tokens.Options{Path: path})
		made, secret := create(t, s, backup("a"))
		if _, err := s.Find(secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		s.Close()
		if text := usesOf(t, path); text != "" {
			t.Errorf("it was written: %s", text)
		}
		s = open(t, tokens.Options{Path: path})
		if u := s.Use(made); u != (tokens.Use{}) {
			t.Errorf("without a file: got %v", u)
		}
		s.Close()

		// While the directory is away nothing is written; then it is.
		var away atomic.Bool
		away.Store(true)
		record := func() error {
			if away.Load() {
				return errors.New("the directory is away")
			}
			return nil
		}
		s = open(t, tokens.Options{Path: path, MayRecord: record})
		begun := time.Now().UTC()
		if u := s.Use(made); !u.Since.Equal(begun) || !u.Last.IsZero() {
			t.Errorf("a record that begins: got %v, want %v", u, begun)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if text := usesOf(t, path); text != "" {
			t.Errorf("it was written: %s", text)
		}
		away.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := usesOf(t, path); !strings.Contains(text, begun.Format(time.RFC3339)) {
			t.Errorf("it was not written: %q", text)
		}
		s.Close()
		for _, damaged := range []string{"", "{", `{"version": 2, "since": "2026-01-01T00:00:00Z"}`, `{"version": 1}`, strings.Repeat(" ", 1<<20+1)} {
			time.Sleep(time.Hour)
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "tokens-used.json"), []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, tokens.Options{Path: path, MayRecord: always})
			if u := s.Use(made); !u.Since.Equal(time.Now()) || !u.Last.IsZero() {
				t.Errorf("%.20q: got %v, want a new record", damaged, u)
			}
			s.Close()
			if text := usesOf(t, path); !strings.Contains(text, time.Now().UTC().Format(time.RFC3339)) {
				t.Errorf("%.20q: the new record was not written: %q", damaged, text)
			}
		}
	})
}

// slowFiles is a file system that creates files when it is told to.
type slowFiles struct {
	vfs.FS
	waits chan struct{} // gets one for each file that is to be created
	goOn  chan struct{}
}

func (f *slowFiles) Create(name string) (vfs.File, error) {
	f.waits <- struct{}{}
	<-f.goOn
	return f.FS.Create(name)
}

// TestUseWaitsForNoDisk: a token is accepted while the record is being written.
func TestUseWaitsForNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.json")
		s := open(t, tokens.Options{Path: path})
		made, secret := create(t, s, backup("a"))
		s.Close()
		slow := &slowFiles{vfs.OS(), make(chan struct{}), make(chan struct{})}
		s = open(t, tokens.Options{Path: path, FS: slow, MayRecord: always})
		if _, err := s.Find(secret); err != nil {
			t.Fatal(err)
		}
		<-slow.waits // a minute later
		for range 3 {
			time.Sleep(time.Hour)
			if _, err := s.Find(secret); err != nil || len(s.List()) != 1 || !s.Use(made).Last.Equal(time.Now().Truncate(time.Second)) {
				t.Errorf("while the record is written: %v, %v", err, s.Use(made))
			}
		}
		close(slow.goOn)
		go func() {
			for range slow.waits {
			}
		}()
		s.Close()
		close(slow.waits)
		if text := usesOf(t, path); !strings.Contains(text, time.Now().UTC().Format(time.RFC3339)) {
			t.Errorf("the last use was not written: %s", text)
		}
	})
}
