package tokens_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/api/tokens"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/policy"
)

func open(t *testing.T, o tokens.Options) *tokens.Store {
	t.Helper()
	s, err := tokens.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func create(t *testing.T, s *tokens.Store, token tokens.Token) (tokens.Token, string) {
	t.Helper()
	made, secret, err := s.Create(token)
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

func backup(name string) tokens.Token {
	return tokens.Token{Name: name, Role: policy.Backup, Repositories: []string{"laptop"}, CreatedBy: "admin"}
}

// TestStory: a token is accepted from its creation to its end, also over a restart.
func TestStory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	s := open(t, tokens.Options{Path: path})
	if list := s.List(); len(list) != 0 {
		t.Errorf("without a file: %v", list)
	}
	made, secret := create(t, s, backup("b"))
	_, other := create(t, s, backup("a"))
	if secret == other {
		t.Error("two tokens have one secret")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v; want mode 0600", info.Mode(), err)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), secret) || strings.Contains(string(text), secret[12:]) {
		t.Errorf("the file has the secret: %s, %v", text, err)
	}
	session, err := s.Find(secret)
	if err != nil || session.Name != "b" || session.Role != policy.Backup || session.Life.Err() != nil {
		t.Errorf("find: got %+v, %v", session, err)
	}
	s.Close()

	s = open(t, tokens.Options{Path: path})
	if session, err = s.Find(secret); err != nil || session.ID != made.ID || session.Created != made.Created || session.CreatedBy != "admin" {
		t.Errorf("after a restart: got %+v, %v; want %+v", session, err, made)
	}
	if list := s.List(); len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Errorf("list: got %v", list)
	}
	if named, ok := s.Named("b"); !ok || named.ID != made.ID {
		t.Errorf("named: got %v, %v", named, ok)
	}
	ended := make(chan tokens.Token, 1)
	s.OnEnd(func(t tokens.Token) { ended <- t })
	if revoked, err := s.Revoke("b"); err != nil || revoked.ID != made.ID {
		t.Errorf("revoke: got %v, %v", revoked, err)
	}
	if session.Life.Err() == nil || !strings.Contains(context.Cause(session.Life).Error(), "revoked") {
		t.Errorf("the life of a revoked token: %v", context.Cause(session.Life))
	}
	if got := <-ended; got.Name != "b" {
		t.Errorf("told of the end of %v", got)
	}
	for range 2 {
		if _, err := s.Find(secret); !errors.Is(err, tokens.ErrUnknown) {
			t.Errorf("a revoked token: got %v", err)
		}
		if _, ok := s.Named("b"); ok {
			t.Error("a revoked token has its name")
		}
		if _, err := s.Revoke("b"); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("revoke again: got %v", err)
		}
		s.Close()
		s = open(t, tokens.Options{Path: path})
	}
	if _, err := s.Find(other); err != nil {
		t.Errorf("the other token: %v", err)
	}
}

func TestFindRefuses(t *testing.T) {
	s := open(t, tokens.Options{Path: filepath.Join(t.TempDir(), "tokens.json")})
	_, secret := create(t, s, backup("a"))
	changed := func(i int) string {
		c := byte('a')
		if secret[i] == c {
			c = 'b'
		}
		return secret[:i] + string(c) + secret[i+1:]
	}
	for _, test := range []struct {
		secret string
		want   error
	}{
		{"", tokens.ErrMalformed}, {"ph_", tokens.ErrMalformed}, {secret[:len(secret)-1], tokens.ErrMalformed}, {secret + "a", tokens.ErrMalformed},
		{strings.ToUpper(secret), tokens.ErrMalformed}, {strings.Replace(secret, "_", "-", 2), tokens.ErrMalformed}, {changed(11), tokens.ErrMalformed},
		{secret[:20] + "!" + secret[21:], tokens.ErrMalformed},
		{changed(5), tokens.ErrUnknown}, {changed(20), tokens.ErrUnknown}, {changed(40), tokens.ErrUnknown},
	} {
		if _, err := s.Find(test.secret); !errors.Is(err, test.want) {
			t.Errorf("%q: got %v, want %v", test.secret, err, test.want)
		}
	}
	if !tokens.Like(secret) || tokens.Like("packhouse") {
		t.Error("Like does not tell secrets of tokens from others")
	}
}

// TestCreateRefuses: after a refusal there is nothing that was not there before.
func TestCreateRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	s := open(t, tokens.Options{Path: path})
	create(t, s, backup("taken"))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*tokens.Token){
		"has 1 to 64 letters":         func(t *tokens.Token) { t.Name = strings.Repeat("x", 65) },
		"does not begin with":         func(t *tokens.Token) { t.Name = "-x" },
		`'.', '_' and '-'`:            func(t *tokens.Token) { t.Name = "a:b" },
		"principal of the server":     func(t *tokens.Token) { t.Name = "token" },
		"there is a token":            func(t *tokens.Token) { t.Name = "taken" },
		"expected one of":             func(t *tokens.Token) { t.Role = "bakup" },
		"would have expired":          func(t *tokens.Token) { t.Expires = time.Now().Add(-time.Second) },
		"needs the names":             func(t *tokens.Token) { t.Repositories = nil },
		"named twice":                 func(t *tokens.Token) { t.Repositories = []string{"a", "a"} },
		"a repository name has only":  func(t *tokens.Token) { t.Repositories = []string{"a", "*"} },
		"does not begin with '.'":     func(t *tokens.Token) { t.Repositories = []string{".x"} },
		"1000 repositories at most":   func(t *tokens.Token) { t.Repositories = make([]string, 1001) },
		"a repository name has 1 to ": func(t *tokens.Token) { t.Repositories = []string{""} },
	} {
		token := backup("fine")
		change(&token)
		_, secret, err := s.Create(token)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, repo.ErrInvalid) && !errors.Is(err, repo.ErrExists) || secret != "" {
			t.Errorf("%+v: got %v, want %q", token, err, want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) || len(s.List()) != 1 {
		t.Errorf("refusals changed the file to %s, %v", after, err)
	}
}

func TestNamesOfThoseWithout(t *testing.T) {
	s := open(t, tokens.Options{Path: filepath.Join(t.TempDir(), "tokens.json")})
	for _, test := range []struct {
		repositories []string
		want         string
	}{
		{[]string{"laptop"}, "laptop-read"}, {[]string{"laptop", "phone"}, "laptop-read-2"}, {[]string{"laptop"}, "laptop-read-3"},
		{[]string{tokens.All}, "all-read"}, {[]string{strings.Repeat("x", 128)}, strings.Repeat("x", 40) + "-read"},
	} {
		if made, _ := create(t, s, tokens.Token{Role: policy.Read, Repositories: test.repositories}); made.Name != test.want {
			t.Errorf("%q: got %q, want %q", test.repositories, made.Name, test.want)
		}
	}
}

func TestPermissions(t *testing.T) {
	some := tokens.Token{Role: policy.Backup, Repositories: []string{"a", "b"}}
	all := tokens.Token{Role: policy.Admin, Repositories: []string{tokens.All}}
	for _, test := range []struct {
		token               tokens.Token
		repository, dialect string
		want                *policy.Permissions
	}{
		{some, "a", "vger", policy.Backup.Permissions("vger")},
		{some, "b", "borgstore", policy.Backup.Permissions("borgstore")},
		{some, "c", "vger", policy.Nothing()},
		{some, "", "vger", policy.Nothing()},
		{all, "c", "vger", policy.Admin.Permissions("vger")},
		{all, "", "", policy.Admin.Permissions("")},
	} {
		if got := test.token.Permissions(test.repository, test.dialect); got != test.want {
			t.Errorf("%v in %q: got %s, want %s", test.token, test.repository, got, test.want)
		}
	}
}

// TestExpiry: a token ends on time, is told of, and does not come back when the clock is set back.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.json")
		var mu sync.Mutex
		back := time.Duration(0)
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(-back)
		}
		s := open(t, tokens.Options{Path: path, Now: now})
		var ended []string
		s.OnEnd(func(token tokens.Token) {
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, token.Name)
		})
		late := backup("late")
		late.Expires = time.Now().Add(90 * 24 * time.Hour)
		create(t, s, late)
		soon := backup("soon")
		soon.Expires = time.Now().Add(time.Hour)
		made, secret := create(t, s, soon)
		session, err := s.Find(secret)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if _, err := s.Find(secret); err != nil || session.Life.Err() != nil {
			t.Errorf("before its time: %v, %v", err, session.Life.Err())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, err := s.Find(secret); !errors.Is(err, tokens.ErrExpired) || !strings.Contains(err.Error(), "soon") {
			t.Errorf("on time: got %v", err)
		}
		if got := context.Cause(session.Life); !errors.Is(got, tokens.ErrExpired) {
			t.Errorf("its life: %v", got)
		}
		if _, ok := s.Named("soon"); ok {
			t.Error("an expired token has its name")
		}
		mu.Lock()
		if len(ended) != 1 || ended[0] != "soon" {
			t.Errorf("told of the end of %q", ended)
		}
		back = 2 * time.Hour
		mu.Unlock()
		if _, err := s.Find(secret); !errors.Is(err, tokens.ErrExpired) {
			t.Errorf("with an older clock: got %v", err)
		}
		mu.Lock()
		back = 0
		mu.Unlock()
		if list := s.List(); len(list) != 2 || !list[1].Expired(time.Now()) || list[0].Expired(time.Now()) {
			t.Errorf("list: %v", list)
		}
		if _, _, err := s.Create(backup("soon")); !errors.Is(err, repo.ErrExists) || !strings.Contains(err.Error(), "revoke it first") {
			t.Errorf("the name of an expired token: got %v", err)
		}
		if revoked, err := s.Revoke("soon"); err != nil || revoked.ID != made.ID {
			t.Errorf("revoke: %v, %v", revoked, err)
		}
		s.Close()
		synctest.Wait()
	})
}

// TestFileFails: a token that could not be stored does not hold; one that was revoked does not, whatever the file says.
func TestFileFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	fsys := vfstest.NewFailing(vfs.OS())
	s := open(t, tokens.Options{Path: path, FS: fsys})
	_, secret := create(t, s, backup("a"))
	for cause, want := range map[error]error{syscall.ENOSPC: repo.ErrNoSpace, syscall.EIO: repo.ErrReadOnly, syscall.EROFS: repo.ErrReadOnlyDisk} {
		for n := 1; ; n++ { // each call of a change
			fsys.FailAt(n, vfstest.Before, cause)
			_, secret, err := s.Create(backup("b"))
			hit := fsys.Hit()
			fsys.Reset()
			if !hit {
				if n < 5 || err != nil {
					t.Errorf("%v: after %d calls: %v", cause, n, err)
				}
				break
			}
			if !errors.Is(err, want) || secret != "" || strings.Contains(err.Error(), path) {
				t.Errorf("%v, call %d: create: got %q, %v", cause, n, secret, err)
			}
		}
		if _, err := s.Revoke("b"); err != nil {
			t.Fatal(err)
		}
	}
	if list := s.List(); len(list) != 1 {
		t.Errorf("after failures: %v", list)
	}
	fsys.StopAt(1, vfstest.Before, syscall.ENOSPC)
	if _, err := s.Revoke("a"); !errors.Is(err, repo.ErrNoSpace) || !strings.Contains(err.Error(), "does not hold any more") {
		t.Errorf("revoke: got %v", err)
	}
	if _, err := s.Find(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("a revoked token: got %v", err)
	}
	fsys.Reset()
	if err := s.Reload(); err != nil { // of a file that still has it
		t.Fatal(err)
	}
	if _, err := s.Find(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("a revoked token, after the file was read again: got %v", err)
	}
	if _, err := s.Revoke("a"); err != nil {
		t.Errorf("revoke once more: got %v", err)
	}
	s.Close()
	s = open(t, tokens.Options{Path: path})
	if _, err := s.Find(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("a revoked token, after a restart: got %v", err)
	}
}

// TestReload: what another process has changed holds; who is there already goes on.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	s := open(t, tokens.Options{Path: path})
	_, kept := create(t, s, backup("kept"))
	_, gone := create(t, s, backup("gone"))
	stays, err := s.Find(kept)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := s.Find(gone)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, tokens.Options{Path: path})
	if _, err := other.Revoke("gone"); err != nil {
		t.Fatal(err)
	}
	_, fresh := create(t, other, backup("fresh"))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if stays.Life.Err() != nil || ends.Life.Err() == nil {
		t.Errorf("lives: %v, %v", stays.Life.Err(), ends.Life.Err())
	}
	if _, err := s.Find(fresh); err != nil {
		t.Errorf("a new token: %v", err)
	}
	if _, err := s.Find(gone); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("a token that was revoked: %v", err)
	}
}

// TestBadFile: without the file nobody knows what was revoked.
func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens.json")
	s := open(t, tokens.Options{Path: path})
	create(t, s, backup("a"))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	for name, bad := range map[string]string{
		"empty": "", "cut": string(good[:len(good)-10]), "not JSON": "tokens",
		"newer version": strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"role":          strings.Replace(string(good), `"backup"`, `"nothing"`, 1),
		"no repository": strings.Replace(string(good), `"laptop"`, ``, 1),
		"hash":          strings.Replace(string(good), `"sha256": "`, `"sha256": "00`, 1),
		"no name":       strings.Replace(string(good), `"a"`, `""`, 1),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.Open(tokens.Options{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := s.Reload(); err == nil {
			t.Errorf("%s: reloaded", name)
		}
	}
	if err := json.Unmarshal(good, &document); err != nil {
		t.Fatal(err)
	}
	document["tokens"] = append(document["tokens"].([]any), document["tokens"].([]any)...)
	twice, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, twice, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Open(tokens.Options{Path: path}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a token twice: got %v", err)
	}
	if len(s.List()) != 1 {
		t.Error("a bad file has changed what holds")
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	s := open(t, tokens.Options{Path: filepath.Join(t.TempDir(), "tokens.json")})
	s.OnEnd(func(tokens.Token) {})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 5 {
				token := backup("")
				token.Repositories = []string{string(rune('a' + i))}
				made, secret, err := s.Create(token)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Find(secret); err != nil {
					t.Error(err)
				}
				s.List()
				if _, err := s.Revoke(made.Name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if list := s.List(); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
}

func FuzzFind(f *testing.F) {
	s, err := tokens.Open(tokens.Options{Path: filepath.Join(f.TempDir(), "tokens.json")})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	_, secret, err := s.Create(backup("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Add("ph_")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := s.Find(text); (err == nil) != (text == secret) {
			t.Errorf("%q: got %v", text, err)
		}
	})
}

// TestNameOfItself: a token without a name gets one that tokens can have, whatever the repository is called.
func TestNameOfItself(t *testing.T) {
	s := open(t, tokens.Options{Path: filepath.Join(t.TempDir(), "tokens.json")})
	for _, tt := range []struct{ repository, want string }{
		{"laptop", "laptop-backup"},
		{"alice/laptop", "alice-laptop-backup"},
		{"alice-laptop", "alice-laptop-backup-2"},
		{"mein büro", "mein-b-ro-backup"},
		{"bob@example.org/x", "bob-example.org-x-backup"},
		{"オフィス", "repository-backup"},
		{tokens.All, "all-backup"},
	} {
		made, _, err := s.Create(tokens.Token{Role: "backup", Repositories: []string{tt.repository}})
		if err != nil || made.Name != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.repository, made.Name, err, tt.want)
		}
	}
}
