package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"packhouse/api/holder"
	"packhouse/repo/layout"
)

// TestForgetVanished: a repository that is missing is listed as such, also after a restart, until it is destroyed, by a server that runs and by a command alone.
func TestForgetVanished(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if code, _, errs := runHere(t, "repo", "create", name, "--dialect", "restic", "-d", data); code != 0 {
			t.Fatal(errs)
		}
		if err := os.RemoveAll(filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(want int, text string, args ...string) {
		t.Helper()
		if code, out, errs := runHere(t, append(args, "-d", data)...); code != want || !match(text, out+errs) {
			t.Errorf("%v: got %d, %q %q, want %q", args, code, out, errs, text)
		}
	}
	forget := func(name string) {
		t.Helper()
		command(0, `(?m)^`+name+`\t.*it was here and is missing`, "repo", "list")
		command(1, `it was here and is missing.*packhouse repo destroy`, "repo", "info", name)
		command(3, `(?m)^`+name+`: .*it was here and is missing(?s:.*)damage was found`, "check")
		command(2, `nobody can confirm`, "repo", "destroy", name)
		command(0, `^forgot `+name, "repo", "destroy", name, "--yes")
		command(1, `no such repository\n$`, "repo", "info", name)
		command(1, `no such repository\n$`, "repo", "destroy", name, "--yes")
	}
	forget("one")
	s := startServer(t, top, "--data-dir", data)
	if !match(`repositories are missing that were in the data directory.*repositories=two`, s.errs.String()) {
		t.Errorf("the start does not warn: %s", s.errs)
	}
	forget("two")
	s.stop(t, syscall.SIGTERM)
	command(0, `^$`, "repo", "list")
}

// TestListOfOne: the directory of one repository is that alone, also beside a server that has more.
func TestListOfOne(t *testing.T) {
	dir := tempDir(t)
	s := startServer(t, dir)
	s.expect(t, http.StatusOK, http.MethodPost, "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, http.MethodPost, "/phone/?cmd=create", "")
	one := filepath.Join(dir, "packhouse-data", "laptop")
	if code, out, errs := runHere(t, "repo", "list", "-d", one); code != 0 || !strings.HasPrefix(out, "laptop\t") || strings.Contains(out, "phone") {
		t.Errorf("got %d, %s%s, want the one", code, out, errs)
	}
	code, out, errs := runHere(t, "repo", "list", "-d", one, "--json")
	var list struct{ Repositories []struct{ Name string } }
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list.Repositories) != 1 || list.Repositories[0].Name != "laptop" {
		t.Errorf("as JSON: got %d, %v, %s%s, want the one", code, err, out, errs)
	}
}

// TestQuestionBeforeDestroying: what a person is asked before a repository is destroyed says what would be lost.
func TestQuestionBeforeDestroying(t *testing.T) {
	dir := tempDir(t)
	s := startServer(t, dir)
	s.expect(t, http.StatusOK, http.MethodPost, "/laptop/?cmd=create", "")
	keyboard, terminal := pseudoTerminal(t)
	cmd := program(t, dir, "packhouse", "repo", "destroy", "laptop")
	var errs buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &errs, &errs
	if _, err := keyboard.Write([]byte("no\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err == nil {
		t.Error("it was destroyed")
	}
	if want := "This destroys 0 items, 0 bytes. Last backup: never.\nType laptop to continue: "; !strings.Contains(errs.String(), want) {
		t.Errorf("got %s, want %q", errs.String(), want)
	}
}

// TestAdministration runs the administrator's commands against a server, and then against its directory.
func TestAdministration(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data, "--grace", "1h")
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	for _, key := range []string{"config/a", "config/b", "config/z", "packs/00/x"} {
		s.expect(t, http.StatusOK, "POST", "/laptop/"+key, "hello")
	}
	s.expect(t, http.StatusOK, "DELETE", "/laptop/config/b", "")
	s.expect(t, http.StatusOK, "DELETE", "/laptop/config/z", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/locks/aa", `{"hostid":"h","processid":1}`)

	ok := func(want string, args ...string) string {
		t.Helper()
		code, out, errs := runHere(t, append(args, "-d", data)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d, %s", args, code, errs)
		}
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%v: got\n%swant %q", args, out, want)
		}
		return out
	}
	fails := func(code int, want string, args ...string) {
		t.Helper()
		got, out, errs := runHere(t, append(args, "-d", data)...)
		if got != code || !strings.Contains(errs, want) {
			t.Errorf("%v: got exit code %d, %q %q; want %d, %q", args, got, out, errs, code, want)
		}
	}
	for _, where := range []string{"running server", "directory alone"} {
		ok(`(?m)^laptop\tborgstore\t\d\t\d+\t-\t\d+\t-\t-\tok$`, "repo", "list")
		ok(`(?m)^dialect +borgstore$`, "repo", "info", "laptop")
		var info struct {
			Name  string
			Usage struct{ Items int64 }
		}
		if err := json.Unmarshal([]byte(ok("", "repo", "info", "laptop", "--json")), &info); err != nil || info.Name != "laptop" || info.Usage.Items != 3 {
			t.Errorf("%s: repo info --json: got %+v, %v", where, info, err)
		}
		ok(`laptop: 3 items in the index, \d+ bytes read, 0 problems`, "check", "laptop", "--verify")
		fails(1, "no such repository", "repo", "info", "nothing")
		fails(2, "name of a repository is missing", "repo", "info")
		fails(1, "no such repository", "check", "nothing")
		fails(2, "nobody can confirm this", "repo", "destroy", "laptop")
		fails(2, "--dialect must be", "repo", "create", "x")
		fails(2, "does not begin with '.'", "repo", "create", ".x", "--dialect", "vger")
		fails(2, "give either the IDs", "lock", "break", "laptop")
		fails(1, "there is no lock zz", "lock", "break", "laptop", "zz")
		ok(`locks/aa\tlock\th\t1\t`, "lock", "list", "laptop")
		ok(`created vault`, "repo", "create", "vault", "--dialect", "vger")
		fails(1, "already exists", "repo", "create", "vault", "--dialect", "vger")
		ok(`destroyed vault`, "repo", "destroy", "vault", "--yes")
		ok(`^[0-9a-f]{16}\tvault\tvger\t0\t0\t20\S+\t20\S+\n$`, "repo", "list", "--removed")
		ok(`^restored safe, 0 items`, "repo", "restore", "vault", "--as", "safe")
		fails(1, "no removed repository has this name", "repo", "restore", "vault")
		ok(`destroyed safe`, "repo", "destroy", "safe", "--yes")
		ok(`created safe`, "repo", "create", "safe", "--dialect", "vger")
		fails(1, "already exists", "repo", "restore", "safe")
		ok(`destroyed safe`, "repo", "destroy", "safe", "--yes", "--now")
		ok(`^restored safe, 0 items`, "repo", "restore", "safe")
		ok(`destroyed safe`, "repo", "destroy", "safe", "--yes")
		fails(2, "nobody can confirm this", "repo", "purge", "safe")
		ok(`^purged safe, 0 items`, "repo", "purge", "safe", "--yes")
		ok(`^$`, "repo", "list", "--removed")
		if where == "running server" {
			for _, want := range []string{
				`repository=vault .*operation=create .*status=200`, `repository=vault .*operation=destroy .*status=200`,
				`repository=laptop .*operation=check .*status=200`, `repository=vault .*operation=create .*status=409 .*reason="already exists`,
			} {
				s.errs.await(t, want) // the line is written when the answer is sent
			}
			if got := s.stop(t, syscall.SIGTERM); got != 0 {
				t.Fatalf("exit code of the server: %d", got)
			}
		}
	}
	ok(`quota 10485760 bytes \(10 MiB\), used 10 bytes`, "repo", "quota", "laptop", "10M")
	ok(`quota 10485760 bytes`, "repo", "quota", "laptop")
	ok(`trash quota 10485760 bytes \(10 MiB\), used`, "repo", "quota", "laptop")
	ok(`(?s)^quota 10485760 bytes .*\ntrash quota 2097152 bytes`, "repo", "quota", "laptop", "--trash", "2M")
	ok(`\t10485760\t\d+\t2097152\t`, "repo", "list")
	ok(`trash +\d+ items, \d+ bytes.* of 2097152 bytes`, "repo", "info", "laptop")
	ok(`(?s)^quota 20971520 bytes .*\ntrash quota 20971520 bytes`, "repo", "quota", "laptop", "20M", "--trash", "default")
	fails(2, "not a size", "repo", "quota", "laptop", "--trash", "much")
	ok(`quota none`, "repo", "quota", "laptop", "none")
	ok(`quota 10485760 bytes`, "repo", "quota", "laptop", "10M")
	ok(`quota none`, "repo", "quota", "laptop", "default")
	fails(2, "not a size", "repo", "quota", "laptop", "much")
	ok(`broke locks/aa`, "lock", "break", "laptop", "locks/aa")
	ok(`^$`, "lock", "list", "laptop")

	trash := ok(`\tconfig/b\t5\t`, "trash", "list", "laptop")
	id := regexp.MustCompile(`(?m)^(\S+)\tconfig/b`).FindStringSubmatch(trash)[1]
	ok(`restored config/c, 5 bytes`, "trash", "restore", "laptop", id, "--as", "config/c")
	if after := ok("", "trash", "list", "laptop"); strings.Contains(after, "config/b") {
		t.Errorf("trash after the restore:\n%s", after)
	}
	fails(1, "not found", "trash", "restore", "laptop", id)
	ok(`\tstore\tconfig/b\t-\t`, "repo", "history", "laptop")
	ok(`^\S+\tstore\tconfig/b\t-\t\S+\t\S+\t-\n\S+\tdelete\tconfig/b\t-\t\S+\t\S+\t-\n$`, "repo", "history", "laptop", "config/b", "--since", "1h")
	ok(`^\S+\trestore\tconfig/c\t-\t-\t-\t-\n$`, "repo", "history", "laptop", "config/c")
	ok(`^$`, "repo", "history", "laptop", "--principal", "nobody")
	ok(`history      \d+ changes`, "repo", "info", "laptop")
	fails(2, "is neither a time", "repo", "history", "laptop", "--since", "long")
	fails(1, "no such repository", "repo", "history", "nothing")
	fails(2, "--to TIME is missing", "repo", "rollback", "laptop")
	fails(2, "is neither a time", "repo", "rollback", "laptop", "--to", "long")
	fails(1, "the history of this repository begins at", "repo", "rollback", "laptop", "--to", "9d", "--yes")
	fails(1, "lies in the future", "repo", "rollback", "laptop", "--to", "2099-01-01 03:00", "--yes")
	fails(2, "nobody can confirm this", "repo", "rollback", "laptop", "--to", time.Now().UTC().Format(time.RFC3339Nano))
	time.Sleep(10 * time.Millisecond)
	to := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(10 * time.Millisecond)
	ok("", "trash", "restore", "laptop", regexp.MustCompile(`(?m)^(\S+)\tconfig/z`).FindStringSubmatch(trash)[1])
	before := ok(`\tstore\tconfig/z\t`, "repo", "history", "laptop")
	ok(`(?m)^laptop, back to .* \(1 changes since are undone\):\n  0 items, .*\n  0 items, .*\n  1 items, 5 bytes, are new`, "repo", "rollback", "laptop", "--to", to, "--dry-run")
	if ok("", "repo", "history", "laptop") != before {
		t.Error("a dry run changes something")
	}
	var plan struct{ Removes struct{ Items int } }
	if text := ok("", "repo", "rollback", "laptop", "--to", to, "--yes", "--json"); json.Unmarshal([]byte(text), &plan) != nil || plan.Removes.Items != 1 {
		t.Errorf("rollback --json: %s", text)
	}
	ok(`\tdelete\tconfig/z\t-\t\S+\t\S+\trollback\n$`, "repo", "history", "laptop")
	ok("", "trash", "restore", "laptop", "--prefix", "config/z", "--since", "1h")
	ok(`^restored 0 items, 0 bytes; 0 skipped`, "trash", "restore", "laptop", "--prefix", "config/z")
	fails(2, "which items", "trash", "restore", "laptop")
	fails(2, "--as is for one ID", "trash", "restore", "laptop", "--prefix", "x", "--as", "y")
	fails(2, "is neither a time", "trash", "restore", "laptop", "--since", "long")
	ok("", "repo", "rollback", "laptop", "--to", to, "--yes")
	fails(2, "nobody can confirm this", "trash", "empty", "laptop")
	fails(2, "is not a duration", "trash", "empty", "laptop", "--older-than", "long", "--yes")
	fails(1, "no such repository", "trash", "empty", "nothing", "--yes")
	ok(`^removed 0 items`, "trash", "empty", "laptop", "--yes", "--older-than", "1h")
	ok(`^removed 1 items, 5 bytes`, "trash", "empty", "laptop", "--yes")
	ok(`^$`, "trash", "list", "laptop")

	// One repository alone, by its directory.
	if code, out, errs := runHere(t, "repo", "info", "-d", filepath.Join(data, "laptop")); code != 0 || !strings.Contains(out, "dialect      borgstore") {
		t.Errorf("info of a directory: %d %q %q", code, out, errs)
	}
	damage(t, filepath.Join(data, "laptop"))
	fails(3, "damage was found", "check", "--verify")
	fails(3, "damage was found", "check", "--verify") // marked before, and still told
	fails(3, "damage was found", "check")             // and without reading again
}

// damage changes a byte of the first item that was stored, which lies in the log.
func damage(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments of the log: %q, %v", segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("hello"))
	if at < 0 {
		t.Fatal("no item in the log")
	}
	flip(t, segments[0], int64(at))
}

// TestCommandsTogether: commands that begin at once on one directory, beside pipes whose holder comes and goes, all
// get their answer.
func TestCommandsTogether(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "r")
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	var wait sync.WaitGroup
	for _, args := range [][]string{{"repo", "list", "-d", top}, {"repo", "info", "r", "-d", top}, {"repo", "info", "-d", dir}, {"lock", "list", "-d", dir}} {
		wait.Go(func() {
			for range 4 {
				out, err := program(t, top, append([]string{"packhouse"}, args...)...).CombinedOutput()
				if err != nil {
					t.Errorf("%q: %v\n%s", args, err, out)
				}
			}
		})
	}
	for n := range 20 {
		c.want(t, http.StatusOK, "POST", fmt.Sprintf("/packs/%d", n), "x")
	}
	wait.Wait()
	c.finish(t)
}

// TestOwner: root is kept from making files in another user's directory.
func TestOwner(t *testing.T) {
	dir := tempDir(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 4711, 4711); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := runHere(t, "repo", "list", "-d", dir); code != 1 || !strings.Contains(errs, "belongs to #4711") {
			t.Errorf("list: got exit code %d, %q", code, errs)
		}
	}
	if err := holder.CheckOwner(dir, 0); err == nil || !strings.Contains(err.Error(), "sudo -u") {
		t.Errorf("as root: got %v", err)
	}
	if err := holder.CheckOwner(dir, 4711); err != nil {
		t.Errorf("as the owner: got %v", err)
	}
	if err := holder.CheckOwner("/", 0); err != nil {
		t.Errorf("root in its own: got %v", err)
	}
}

func TestCommandLineErrors(t *testing.T) {
	dir := tempDir(t)
	bad := filepath.Join(dir, "bad.toml")
	if err := os.WriteFile(bad, []byte("[server]\nlissen = 'x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := filepath.Join(dir, "user.toml")
	write(t, user, "[[user]]\nname = 'u'\npassword_hash = '$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\n")
	good := filepath.Join(dir, "good.toml")
	if err := os.WriteFile(good, []byte("[server]\nrate_limit_rps = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	repository := filepath.Join(dir, "one")
	if err := os.MkdirAll(repository, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repository, layout.IndexFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	write(t, empty, "\n")
	for _, test := range []struct {
		args []string
		code int
		want string // in stdout or stderr
	}{
		{nil, 0, "packhouse serve"},
		{[]string{"version"}, 0, "packhouse "},
		{[]string{"--version"}, 0, "packhouse "},
		{[]string{"-V"}, 0, "packhouse "},
		{[]string{"version", "x"}, 2, "takes no arguments"},
		{[]string{"serv"}, 2, `unknown command "serv"; did you mean serve?`},
		{[]string{"repo", "lst"}, 2, `unknown command "packhouse repo lst"; did you mean packhouse repo list?`},
		{[]string{"repo", "info", "a", "b"}, 2, "accepts at most 1 arg(s), received 2; see packhouse repo info --help"},
		{[]string{"serve", "--lissen", "x"}, 2, "unknown flag: --lissen; did you mean --listen?; see packhouse serve --help"},
		{[]string{"serve", "now"}, 2, "takes no arguments"},
		{[]string{"serve", "--listen", "8484"}, 2, `--listen: "8484" is not an address`},
		{[]string{"serve", "--quota", "10Q"}, 2, `--quota: "10Q" is not a size`},
		{[]string{"serve", "--grace", "soon"}, 2, `--grace: "soon" is not a duration`},
		{[]string{"serve", "--compact-grace", "59m"}, 2, `--compact-grace: "59m" is too short; the minimum is 1h0m0s`},
		{[]string{"serve", "--compact-young", "0"}, 2, `--compact-young: "0" is too short; the minimum is 1s`},
		{[]string{"serve", "--rest", "--compact-grace", "3h", "--backend", "FILE:x"}, 2, "--compact-grace cannot be used with --rest"},
		{[]string{"serve", "--log-format", "xml"}, 2, `--log-format: "xml" is not one of pretty, json`},
		{[]string{"serve", "--log-level", "inof"}, 2, `did you mean "info"?`},
		{[]string{"serve", "--lock-ttl-seconds", "0"}, 2, "above 0"},
		{[]string{"serve", "--data-dir", ""}, 2, "--data-dir: must not be empty"},
		{[]string{"serve", "--tls-cert", "x", "-d", filepath.Join(dir, "not")}, 1, "packhouse: tls_cert and tls_key belong together"},
		{[]string{"serve", "--tls-cert", "x", "--tls-key", "y", "-d", filepath.Join(dir, "not")}, 1, "TLS certificate"},
		{[]string{"serve", "--token-file", filepath.Join(dir, "no", "token"), "-d", filepath.Join(dir, "not")}, 1, "its directory does not exist"},
		{[]string{"serve", "--token-file", empty, "-d", filepath.Join(dir, "not")}, 1, "empty: the token must not be empty"},
		{[]string{"serve", "--config", filepath.Join(dir, "none.toml")}, 1, "none.toml: no such file"},
		{[]string{"serve", "--config", bad}, 1, `bad.toml:2: unknown key "lissen"; did you mean "listen"?`},
		{[]string{"serve", "-d", repository}, 1, "is one repository, not a data directory"},
		{[]string{"serve", "-d", good}, 1, "not a directory"},
		{[]string{"serve", "-d", filepath.Join(dir, "d"), "-l", "192.0.2.1:1"}, 1, "listen on 192.0.2.1:1"},
		{[]string{"config", "check", bad}, 1, `bad.toml:2: unknown key "lissen"`},
		{[]string{"config", "check", good}, 0, "good.toml: warning: rate_limit_rps has no effect"},
		{[]string{"config", "check", user}, 0, `user.toml: hint: user "u" may do everything, also delete backups; role = "backup" is enough`},
		{[]string{"config", "check"}, 2, "needs a FILE"},
		{[]string{"job", "show", "x", "-d", dir}, 1, "job x was not found in the repositories that could be asked"},
		{[]string{"compact", "--plan", "x", "-d", dir}, 2, "--repo NAME is missing"},
		{[]string{"repo", "list", "-d", filepath.Join(dir, "missing")}, 1, "there is no directory"},
		{[]string{"hold", "--dir", "x"}, 2, "absolute"},
		{[]string{"hold", "--dir", filepath.Join(dir, "h"), "--idle", "long"}, 2, "not a duration"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			code, out, errs := runHere(t, test.args...)
			if code != test.code || !strings.Contains(out+errs, test.want) {
				t.Errorf("got exit code %d, %q, %q; want %d, %q", code, out, errs, test.code, test.want)
			}
		})
	}
	look := tempDir(t)
	if code, out, errs := runHere(t, "repo", "list", "-d", look); code != 0 || out != "" {
		t.Errorf("list of nothing: got exit code %d, %q, %q", code, out, errs)
	}
	if entries, _ := os.ReadDir(look); len(entries) != 0 {
		t.Errorf("a look into a directory left %v", entries)
	}
	if _, err := os.Stat(filepath.Join(dir, "not")); err == nil {
		t.Error("a start that was refused made the data directory")
	}
}
