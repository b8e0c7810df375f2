package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"packhouse/api/holder"
)

// TestDataID: what the first start prints is what the configuration may demand, and then nothing else is taken for the
// data directory, least of all an empty one.
func TestDataID(t *testing.T) {
	top := tempDir(t)
	data, other, empty, file := filepath.Join(top, "data"), filepath.Join(top, "other"), filepath.Join(top, "empty"), filepath.Join(top, "c.toml")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]string)
	for _, dir := range []string{data, other} {
		s := startServer(t, top, "--data-dir", dir)
		m := regexp.MustCompile(`data_id ([0-9a-f]{32})\n`).FindStringSubmatch(s.out.String())
		if m == nil {
			t.Fatalf("the first start does not print the data_id:\n%s", s.out)
		}
		ids[dir] = m[1]
		if !strings.Contains(s.out.String(), "--grace 30d") {
			t.Errorf("the first start recommends no grace time:\n%s", s.out)
		}
		s.stop(t, syscall.SIGTERM)
		s = startServer(t, top, "--data-dir", dir)
		if strings.Contains(s.out.String(), "data_id") {
			t.Errorf("the second start prints the data_id:\n%s", s.out)
		}
		s.stop(t, syscall.SIGTERM)
	}
	configure := func(dir, id string) {
		write(t, file, "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \""+dir+"\"\ndata_id = \""+id+"\"\n")
	}

	configure(data, ids[data])
	s := launch(t, program(t, top, "packhouse", "serve", "--config", file))
	s.out.await(t, "serves")
	s.stop(t, syscall.SIGTERM)

	for _, c := range []struct {
		name, dir, id string
		want          []string
	}{
		{"empty", empty, ids[data], []string{"data directory " + empty + ": it has no identity", "expects " + ids[data], "mount its volume"}},
		{"missing", filepath.Join(top, "missing"), ids[data], []string{filepath.Join(top, "missing"), "expects " + ids[data]}},
		{"another", other, ids[data], []string{"data directory " + other, "identity " + ids[other], "expects " + ids[data]}},
	} {
		t.Run(c.name, func(t *testing.T) {
			configure(c.dir, c.id)
			for _, args := range [][]string{{"serve", "--config", file}, {"repo", "list", "--config", file}} {
				code, _, errs := runHere(t, args...)
				if c.name == "missing" && args[0] == "repo" {
					continue // there is no such directory, it says
				}
				if code != 1 || strings.Count(errs, "\n") != 1 {
					t.Errorf("%v: exit code %d, %q; want 1 and one line", args, code, errs)
				}
				for _, want := range c.want {
					if !strings.Contains(errs, want) {
						t.Errorf("%v: %q does not say %q", args, errs, want)
					}
				}
			}
			if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
				t.Errorf("something was made in the empty directory: %v, %v", left, err)
			}
			if _, err := os.Stat(filepath.Join(top, "missing")); !os.IsNotExist(err) {
				t.Errorf("the missing directory was made: %v", err)
			}
		})
	}

	configure(data, "0123")
	if code, _, errs := runHere(t, "serve", "--config", file); code != 1 || !strings.Contains(errs, file+":4: data_id: \"0123\" is not the identity") {
		t.Errorf("malformed: exit code %d, %q", code, errs)
	}
}

// TestConfigCheckLooksAtTheData: it prints the data_id, and that it is the wrong one.
func TestConfigCheckLooksAtTheData(t *testing.T) {
	top := tempDir(t)
	data, file := filepath.Join(top, "data"), filepath.Join(top, "c.toml")
	s := startServer(t, top, "--data-dir", data)
	id := regexp.MustCompile(`data_id ([0-9a-f]{32})\n`).FindStringSubmatch(s.out.String())[1]
	s.stop(t, syscall.SIGTERM)
	for _, c := range []struct {
		name, text, want string
		code             int
	}{
		{"not set", "", "the data directory " + data + " has data_id = \"" + id + "\"", 0},
		{"right", "data_id = \"" + id + "\"\n", file + ": fine", 0},
		{"wrong", "data_id = \"" + strings.Repeat("0", 32) + "\"\n", "data directory " + data + ": this is another one, with the identity " + id, 1},
		{"not mounted", "data_dir = \"" + top + "/x\"\ndata_id = \"" + id + "\"\n", "warning: the data directory " + top + "/x is not there now", 0},
		{"missing repositories", "[[repository]]\nname = \"laptop\"\n[[repository]]\nname = \"phone\"\n", "has no repository laptop, phone", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "[server]\n"
			if !strings.Contains(c.text, "data_dir") {
				text += "data_dir = \"" + data + "\"\n"
			}
			write(t, file, text+c.text)
			code, out, errs := runHere(t, "config", "check", file)
			if code != c.code || !strings.Contains(out+errs, c.want) {
				t.Errorf("exit code %d, %q; want %d and %q", code, out+errs, c.code, c.want)
			}
		})
	}
	s = launch(t, program(t, top, "packhouse", "serve", "--config", file, "-l", "127.0.0.1:0"))
	s.errs.await(t, "do not exist in the data directory.*repositories=\"?laptop, phone")
	s.out.await(t, "serves")
	if s.stop(t, syscall.SIGTERM) != 0 {
		t.Errorf("the server did not end well: %s", s.errs)
	}
}

// TestDataDirectoryTakenAway: below a running server the directory is moved away and an empty one takes its place, as
// a volume that is unmounted leaves it. Nothing is served and nothing made; when it is back the server goes on by itself.
func TestDataDirectoryTakenAway(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data, "--log-format", "json")
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/config/a", "hello")
	health := func() (h struct {
		Status, Reason string
		Detached       bool
		Repos          int
	}) {
		t.Helper()
		text := page(t, s, "/health")
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, top) {
			t.Errorf("health names the directory: %s", text)
		}
		return h
	}
	for range 2 { // it may happen again
		if err := os.Rename(data, data+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, r := range [][3]string{
			{"GET", "/laptop/config/a", ""}, {"POST", "/laptop/config/b", "lost"}, {"POST", "/new/?cmd=create", ""}, {"GET", "/laptop//", ""},
			{"GET", "/nothing/config/a", ""}, {"GET", "/-/repositories", ""},
		} {
			status, text := s.do(t, r[0], r[1], r[2])
			if status != http.StatusServiceUnavailable || strings.Contains(text, top) {
				t.Errorf("%s %s: got %d %q, want 503 without the path", r[0], r[1], status, text)
			}
		}
		if h := health(); h.Status != "degraded" || !h.Detached || !strings.Contains(h.Reason, "the data directory is missing or not the one that was opened") || h.Repos != 0 {
			t.Errorf("health: got %+v", h)
		}
		if !strings.Contains(page(t, s, "/metrics"), "packhouse_data_directory_attached 0") {
			t.Error("metrics do not show it")
		}
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.errs.await(t, "reload: could not read the token; token and users are not changed")
		if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
			t.Errorf("something was made in the empty directory: %v, %v", left, err)
		}
		s.errs.await(t, regexp.QuoteMeta(data)+": the data directory is not the one that was opened: it has no identity")
		if err := os.Remove(data); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(data+".away", data); err != nil {
			t.Fatal(err)
		}
		await(t, "recovery", func() bool { return health().Status == "ok" }, s.errs)
		if got := s.expect(t, http.StatusOK, "GET", "/laptop/config/a", ""); got != "hello" {
			t.Errorf("item: got %q", got)
		}
		s.expect(t, http.StatusNotFound, "GET", "/laptop/config/b", "")
		s.expect(t, http.StatusOK, "POST", "/laptop/config/c", "stored")
		// The other processes find it again too, and it is the only one.
		if code, out, errs := runHere(t, "check", "-d", data); code != 0 || !strings.Contains(out, "2 items") {
			t.Errorf("check: exit code %d, %s%s", code, out, errs)
		}
		if code, _, errs := runHere(t, "serve", "-d", data, "-l", "127.0.0.1:0"); code != 1 || !strings.Contains(errs, "in use by process") {
			t.Errorf("a second server: exit code %d, %s", code, errs)
		}
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.errs)
	}
}

// page reads one of the server's own pages.
func page(t *testing.T, s *running, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %d %s, %v", path, resp.StatusCode, text, err)
	}
	return string(text)
}

// TestReattachAgain: an attempt to take the data directory again may fail behind the claim of it. The next one does not fail
// because this process has claimed it.
func TestReattachAgain(t *testing.T) {
	claim, err := holder.ClaimData(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{o: serverOptions{Claim: claim, Log: slog.New(slog.DiscardHandler)}}
	for range 2 {
		srv.letGo()
		for range 2 {
			if err := errors.Join(srv.reattach(), claim.Attached()); err != nil {
				t.Errorf("reattach: %v", err)
			}
		}
	}
	srv.letGo()
}

// TestStopWhileAway: a server whose directory is away ends as any other.
func TestStopWhileAway(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data)
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	if err := os.Rename(data, data+".away"); err != nil {
		t.Fatal(err)
	}
	s.expect(t, http.StatusServiceUnavailable, "GET", "/laptop//", "")
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.errs)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the directory was made again: %v", err)
	}
}

// What is done to the directory of one repository below the process that serves it.
var takenAway = []struct {
	name  string
	do    func(dir string) error
	moved bool // it lies at dir.away, whole
}{
	{"renamed", func(dir string) error { return os.Rename(dir, dir+".away") }, true},
	{"removed", func(dir string) (err error) {
		for range 1000 { // the server may make a file in it meanwhile
			if err = os.RemoveAll(dir); err == nil {
				break
			}
		}
		return err
	}, false},
	{"emptied", func(dir string) error {
		entries, err := os.ReadDir(dir)
		for _, entry := range entries {
			if err == nil && !strings.HasPrefix(entry.Name(), ".") {
				err = os.RemoveAll(filepath.Join(dir, entry.Name()))
			}
		}
		return err
	}, false},
	{"replaced", func(dir string) error {
		if err := os.CopyFS(dir+".copy", os.DirFS(dir+".older")); err != nil {
			return err
		}
		if err := os.Rename(dir, dir+".away"); err != nil {
			return err
		}
		return os.Rename(dir+".copy", dir)
	}, true},
}

// older makes a repository with one item beside dir, which nobody has open.
func older(t *testing.T, dir string) {
	t.Helper()
	c := stdioAt(t, dir+".older")
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.want(t, http.StatusOK, "POST", "/config/old", "old")
	c.finish(t)
	endHolder(t, dir+".older")
	for _, name := range []string{"socket", "lock", "log"} { // of its holder; a socket cannot be copied
		_ = os.Remove(filepath.Join(dir+".older", ".packhouse", name))
	}
}

// TestStdioDirectoryTakenAway: the holder ends, and at once another one serves what lies under the name: also to pipes
// that were connected to the old one. What was moved is served under its new name.
func TestStdioDirectoryTakenAway(t *testing.T) {
	t.Parallel()
	for _, c := range takenAway {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "repository")
			if c.name == "replaced" {
				older(t, dir)
			}
			before := stdioAt(t, dir)
			before.want(t, http.StatusOK, "POST", "/?cmd=create", "")
			before.want(t, http.StatusOK, "POST", "/config/a", "hello")
			was := holderOf(dir)
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			if c.name == "replaced" {
				if got := before.want(t, http.StatusOK, "GET", "/config/old", ""); got != "old" {
					t.Errorf("what lies under the name: got %q", got)
				}
			} else {
				before.want(t, http.StatusGone, "GET", "/config/a", "")
				before.want(t, http.StatusOK, "POST", "/?cmd=create", "")
			}
			before.want(t, http.StatusOK, "POST", "/config/b", "new")
			before.want(t, http.StatusNotFound, "GET", "/config/a", "")
			if c.moved {
				moved := stdioAt(t, dir+".away")
				if got := moved.want(t, http.StatusOK, "GET", "/config/a", ""); got != "hello" {
					t.Errorf("under the new name: got %q", got)
				}
				moved.want(t, http.StatusNotFound, "GET", "/config/b", "")
				moved.want(t, http.StatusOK, "POST", "/config/c", "there")
				moved.finish(t)
			}
			if c.name != "emptied" {
				await(t, "end of the old holder", func() bool { return syscall.Kill(was, 0) != nil })
			}
			again := stdioAt(t, dir)
			if got := again.want(t, http.StatusOK, "GET", "/config/b", ""); got != "new" {
				t.Errorf("item: got %q", got)
			}
			again.finish(t)
			before.finish(t)
			endHolder(t, dir)
			if _, err := os.Lstat(filepath.Join(dir, ".packhouse", "socket")); !os.IsNotExist(err) {
				t.Errorf("a socket is left: %v", err)
			}
		})
	}
}

// TestStdioLeavesNoSocket: when a repository's directory is emptied or moved, its holder ends soon and takes its files along.
func TestStdioLeavesNoSocket(t *testing.T) {
	t.Parallel()
	for _, c := range takenAway[:3] {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "repository")
			t.Cleanup(func() { endHolder(t, dir) })
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			p := startStdio(t, "/", []string{idleVariable + "=1h"}, restName, "--stdio", "--backend", "FILE:"+dir)
			p.want(t, http.StatusOK, "POST", "/?cmd=create", "")
			was := holderOf(dir)
			if was == 0 {
				t.Fatal("no holder")
			}
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			await(t, "end of the holder", func() bool { return syscall.Kill(was, 0) != nil })
			for _, place := range []string{dir, dir + ".away"} {
				if _, err := os.Lstat(filepath.Join(place, ".packhouse", "socket")); !os.IsNotExist(err) {
					t.Errorf("a socket is left in %s: %v", filepath.Base(place), err)
				}
			}
			if c.name == "emptied" {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("the emptied directory: %v, %v; want it there, and empty", left, err)
				}
			}
			p.finish(t)
		})
	}
}

// TestRestDirectoryTakenAway: a server of one repository over TCP goes on with what lies under the name.
func TestRestDirectoryTakenAway(t *testing.T) {
	t.Parallel()
	for _, c := range takenAway {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "repository")
			if c.name == "replaced" {
				older(t, dir)
			}
			s := startRest(t, dir)
			s.expect(t, http.StatusOK, "POST", "/?cmd=create", "")
			s.expect(t, http.StatusOK, "POST", "/config/a", "hello")
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			if c.name == "replaced" {
				s.expect(t, http.StatusOK, "GET", "/config/old", "")
			} else {
				s.expect(t, http.StatusGone, "GET", "/config/a", "")
				s.expect(t, http.StatusOK, "POST", "/?cmd=create", "")
			}
			s.expect(t, http.StatusNotFound, "GET", "/config/a", "")
			s.expect(t, http.StatusOK, "POST", "/config/b", "new")
			if c.moved {
				moved := stdioAt(t, dir+".away")
				moved.want(t, http.StatusOK, "GET", "/config/a", "")
				moved.finish(t)
			}
			if code := s.stop(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d\n%s", code, s.errs)
			}
			left := stdioAt(t, dir)
			if got := left.want(t, http.StatusOK, "GET", "/config/b", ""); got != "new" {
				t.Errorf("item: got %q", got)
			}
			left.finish(t)
		})
	}
}
