package api_test

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"packhouse/api"
)

func bcryptHash(t testing.TB, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func shaHash(password string) string {
	sum := sha1.Sum([]byte(password))
	return "{SHA}" + base64.StdEncoding.EncodeToString(sum[:])
}

// passwordsIn writes a file of passwords that has the time at.
func passwordsIn(t testing.TB, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// Of a file as htpasswd writes it: who can log in, and what is said of each line that counts for nothing.
func TestPasswordFileLines(t *testing.T) {
	a := bcryptHash(t, "a", bcrypt.MinCost)
	y, b := strings.Replace(a, "$2a$", "$2y$", 1), strings.Replace(a, "$2a$", "$2b$", 1)
	sha := shaHash("a")
	for _, tt := range []struct {
		name    string
		text    string
		users   string   // names
		remarks []string // each contains
	}{
		{"each kind of hash", "u2a:" + a + "\nu2y:" + y + "\nu2b:" + b + "\nsha:" + sha + "\n", "u2a u2y u2b sha", nil},
		{"comments, blanks, no end of the last line", "# users\n\n  u:" + a + " \r\n\t\nv:" + sha, "u v", nil},
		{"a third field, as nginx has it", "u:" + a + ":a comment\n", "u", nil},
		{"a mark of byte order", "\ufeffu:" + a + "\n", "u", nil},
		{"all letters", "Jürgen.o-k_1@example.org:" + a + "\n", "Jürgen.o-k_1@example.org", nil},
		{"the last of one name counts", "u:" + a + "\nv:" + sha + "\nu:" + sha + "\n", "u v", []string{`line 3: user "u" has line 1 already`}},
		{"also if it cannot be used", "u:" + a + "\nv:" + sha + "\nu:!\n", "v", []string{`line 3: user "u" has line 1 already`, `line 3: user "u" cannot log in`}},
		{"hashes of other kinds", "u:" + a + "\n1:$apr1$x$y\n2:$6$x$y\n3:$5$x$y\n4:plain\n5:\n6:{SHA}x\n7:$2x$" + a[4:] + "\n8:$2a$03$" + a[7:] + "\n9:" + a[:50] + "\n", "u", []string{
			`line 2: user "1" cannot log in: the hash is an MD5 hash ($apr1$)`, `line 3: user "2" cannot log in: the hash is a SHA-512 crypt hash`,
			`"3" cannot log in: the hash is a SHA-256 crypt hash`, `"4" cannot log in: the hash is a plain password or`, `"5" cannot log in: the hash is empty`,
			`"6" cannot log in: the hash is damaged: behind {SHA}`, `"7" cannot log in: the hash is a damaged or outdated bcrypt hash`,
			`"8" cannot log in: the hash is damaged: a bcrypt hash has a cost`, `"9" cannot log in: the hash is a damaged or outdated bcrypt hash`,
		}},
		{"names", "u:" + a + "\na b:" + a + "\n:" + a + "\na/b:" + a + "\n\"q\":" + a + "\n" + strings.Repeat("n", 129) + ":" + a + "\n", "u", []string{
			`line 2: "a b" cannot be a user's name`, `line 3: "" cannot`, `line 4: "a/b" cannot`, `line 5: "\"q\"" cannot`, `line 6: "nnn`,
		}},
		{"no colon", "u:" + a + "\nsecret words\n", "u", []string{"line 2: no colon"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			passwordsIn(t, path, tt.text, time.Now())
			f, err := api.LoadPasswordFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, u := range f.Users() {
				names = append(names, u.Name)
				if !f.Has(u.Name) {
					t.Errorf("Has(%q): got false", u.Name)
				}
			}
			if got := strings.Join(names, " "); got != tt.users {
				t.Errorf("users: got %q, want %q", got, tt.users)
			}
			remarks := f.Remarks()
			if len(remarks) != len(tt.remarks) {
				t.Errorf("remarks: got %q, want %d", remarks, len(tt.remarks))
			}
			for i, want := range tt.remarks {
				if i < len(remarks) && !strings.Contains(remarks[i], want) {
					t.Errorf("remark: got %q, want %q", remarks[i], want)
				}
			}
			if text := fmt.Sprint(remarks); strings.Contains(text, "secret") || strings.Contains(text, a[7:20]) {
				t.Errorf("a remark has a secret: %s", text)
			}
		})
	}
}

// A file in which nobody can log in is refused, with what is wrong with its lines; so is one that is not there.
func TestPasswordFileOfNobody(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"empty":    {"", "has no user that can log in"},
		"comments": {"# nobody\n", "has no user that can log in"},
		"unusable": {"u:$apr1$x$y\nno colon\n", `line 1: user "u" cannot log in`},
	} {
		path := filepath.Join(t.TempDir(), "f")
		passwordsIn(t, path, tt.text, time.Now())
		if _, err := api.LoadPasswordFile(path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	path := filepath.Join(t.TempDir(), "missing")
	if _, err := api.LoadPasswordFile(path); err == nil || strings.Count(err.Error(), path) != 1 {
		t.Errorf("a missing file: got %v, want its path once", err)
	}
}

// A file is read again when it has changed and is complete; else the old users stay, each fault is told once, and the next
// look tries again.
func TestPasswordFileLook(t *testing.T) {
	hash := bcryptHash(t, "p", bcrypt.MinCost)
	path := filepath.Join(t.TempDir(), "f")
	at := time.Unix(1e9, 0)
	passwordsIn(t, path, "first:"+hash+"\n", at)
	f, err := api.LoadPasswordFile(path)
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, wantChanged bool, wantErr, user string) {
		t.Helper()
		changed, err := f.Look()
		if text := fmt.Sprint(err); changed != wantChanged || (wantErr == "") != (err == nil) || !strings.Contains(text, wantErr) {
			t.Errorf("%s: got %t, %v, want %t, %q", what, changed, err, wantChanged, wantErr)
		}
		if !f.Has(user) {
			t.Errorf("%s: user %q is gone", what, user)
		}
	}
	look("nothing has changed", false, "", "first")
	passwordsIn(t, path, "second:"+hash[:20], at.Add(time.Second))
	look("it is being written", false, "", "first")
	passwordsIn(t, path, "second:"+hash+"\n", at.Add(time.Second))
	look("it has just been written", false, "", "first")
	look("it is complete", true, "", "second")
	look("nothing has changed again", false, "", "second")

	passwordsIn(t, path, "# nobody\n", at.Add(2*time.Second))
	look("nobody, for the first time", false, "", "second")
	look("nobody", false, "no user that can log in", "second")
	look("still nobody", false, "", "second")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("removed", false, "no such file", "second")
	look("still removed", false, "", "second")
	passwordsIn(t, path, "third:"+hash+"\n", at.Add(3*time.Second))
	look("there again", false, "", "second")
	look("complete again", true, "", "third")

	// Replaced by one of the same time and size.
	other := path + ".new"
	passwordsIn(t, other, "forth:"+hash+"\n", at.Add(3*time.Second))
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	look("another file", false, "", "third")
	look("another file, complete", true, "", "forth")

	passwordsIn(t, path, "fifth:"+hash+"\n", at.Add(4*time.Second))
	if err := f.Reload(); err != nil || !f.Has("fifth") {
		t.Errorf("Reload: got %v, want the new user at once", err)
	}
	passwordsIn(t, path, "", at.Add(5*time.Second))
	if err := f.Reload(); err == nil || !f.Has("fifth") {
		t.Errorf("Reload of an empty file: got %v, want an error and the old users", err)
	}
}

// Who asks for a user does not wait for a look at a file that does not answer.
func TestPasswordFileThatDoesNotAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	passwordsIn(t, path, "u:"+bcryptHash(t, "p", bcrypt.MinCost)+"\n", time.Now())
	f, err := api.LoadPasswordFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := f.Look(); changed || err != nil {
		t.Fatalf("first look: got %t, %v", changed, err)
	}
	looked := make(chan error, 1)
	go func() { // opening it waits for somebody who writes
		_, err := f.Look()
		looked <- err
	}()
	for range 100 {
		if !f.Has("u") || len(f.Users()) != 1 || len(f.Remarks()) != 0 {
			t.Fatal("the user is gone")
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-looked:
		t.Fatalf("the look has ended: %v", err)
	default:
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-looked; err == nil {
		t.Error("a file of nobody was accepted")
	}
}

// Whatever the bytes are: users have names and hashes that can be used, each once, and nothing that is secret is in a remark.
func FuzzPasswordFile(f *testing.F) {
	for _, text := range []string{"", "a:b", "# x\na:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\na:", "\ufeffa:$2y$05$" + strings.Repeat("a", 53) + ":x\r\n\x00:\n", strings.Repeat("\"", 300) + ":1"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		users, remarks := api.ParsePasswords(text)
		seen := make(map[string]bool)
		for _, u := range users {
			if seen[u.Name] || u.Name == "" || strings.ContainsAny(u.Name, ":/ \n") || api.CheckHash(u.Hash) != nil {
				t.Errorf("got %q", u)
			}
			seen[u.Name] = true
		}
		if len(users) > 0 {
			if _, err := api.NewAuth(api.AuthOptions{Users: users}); err != nil {
				t.Error(err)
			}
		}
		for _, remark := range remarks {
			if strings.ContainsAny(remark, "\n\x00") {
				t.Errorf("remark of more than one line: %q", remark)
			}
		}
	})
}

// Hashes of all kinds that can be used, beside each other.
func TestHashes(t *testing.T) {
	a := bcryptHash(t, "right", bcrypt.MinCost)
	clock := &fakeClock{now: time.Unix(1e9, 0)}
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Now: clock.Now, Users: []api.User{
		{Name: "a", Hash: a}, {Name: "y", Hash: strings.Replace(a, "$2a$", "$2y$", 1)}, {Name: "b", Hash: strings.Replace(a, "$2a$", "$2b$", 1)},
		{Name: "sha", Hash: shaHash("right")}, {Name: "dear", Hash: bcryptHash(t, "right", bcrypt.MinCost+2)},
	}})})
	for _, user := range []string{"a", "y", "b", "sha", "dear"} {
		for password, want := range map[string]int{"right": http.StatusOK, "wrong": http.StatusUnauthorized, "right ": http.StatusUnauthorized} {
			clock.advance(time.Hour) // nobody is slowed down, and nothing remembered
			if response, _ := get(t, f.Addr, "GET", "/r", "Authorization", basic(user, password)); response.StatusCode != want {
				t.Errorf("%s, %q: got %d, want %d", user, password, response.StatusCode, want)
			}
		}
	}
}

// What a wrong password costs says neither whether there is a user, nor which hash it has.
func TestWrongPasswordsCostTheSame(t *testing.T) {
	const most = bcrypt.MinCost + 3
	h := api.NewHashes(map[string]string{
		"cheap": bcryptHash(t, "p", bcrypt.MinCost), "middle": bcryptHash(t, "p", bcrypt.MinCost+1), "dear": bcryptHash(t, "p", most), "sha": shaHash("p"),
	})
	for _, user := range []string{"cheap", "middle", "dear", "sha", "nobody"} {
		if got, want := h.CostOfWrong(user), 1<<most; got != want {
			t.Errorf("%s: got %d rounds, want %d", user, got, want)
		}
	}
	if got := api.NewHashes(map[string]string{"sha": shaHash("p")}).CostOfWrong("nobody"); got != 0 {
		t.Errorf("without a bcrypt hash: got %d rounds, want none", got)
	}
}

// A password that was right is not compared with its hash again for a while.
func TestLoginsAreRemembered(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1e9, 0)}
	auth := newAuth(t, api.AuthOptions{Now: clock.Now, Users: []api.User{{Name: "u", Hash: bcryptHash(t, "right", bcrypt.MinCost)}}})
	compared := auth.CountComparisons()
	f := startEcho(t, api.Options{Auth: auth})
	login := func() int64 {
		t.Helper()
		if response, _ := get(t, f.Addr, "GET", "/r", "Authorization", basic("u", "right")); response.StatusCode != 200 {
			t.Fatalf("got %d", response.StatusCode)
		}
		return compared.Load()
	}
	first := login()
	for range 20 {
		if got := login(); got != first {
			t.Fatalf("compared %d times, want %d", got, first)
		}
	}
	clock.advance(time.Hour)
	if got := login(); got == first {
		t.Error("an hour later it was still remembered")
	}
}
