package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"packhouse/api/holder"
	"packhouse/api/stdio"
	"packhouse/index"
	"packhouse/repo/layout"
)

// ask sends a request over stdio as the real client does, and reads the response by its rules. An error
// means that the connection was lost.
func (c *stdioClient) ask(method, target, body string) (status int, header http.Header, text string, err error) {
	return c.askWith("", method, target, body)
}

// askWith is ask with more headers, each with its line end.
func (c *stdioClient) askWith(headers, method, target, body string) (status int, header http.Header, text string, err error) {
	message := fmt.Sprintf("%s %s HTTP/1.1\r\nAccept: %s\r\nConnection: keep-alive\r\n%s", method, target, acceptBorgStore, headers)
	if method == "POST" || method == "DELETE" {
		message += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(c.in, message+"\r\n"+body); err != nil {
		return 0, nil, "", err
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return 0, nil, "", err
	}
	if fields := strings.Fields(line); len(fields) < 2 {
		return 0, nil, "", fmt.Errorf("status line %q", line)
	} else if status, err = strconv.Atoi(fields[1]); err != nil {
		return 0, nil, "", err
	}
	header = make(http.Header)
	for {
		line, err := c.out.ReadString('\n')
		if err != nil {
			return 0, nil, "", err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		header.Add(name, strings.TrimSpace(value))
	}
	n, _ := strconv.Atoi(header.Get("Content-Length"))
	if method == "HEAD" {
		return status, header, "", nil
	}
	b := make([]byte, n)
	_, err = io.ReadFull(c.out, b)
	return status, header, string(b), err
}

// want asks and fails the test unless the answer has this status.
func (c *stdioClient) want(t testing.TB, status int, method, target, body string) string {
	t.Helper()
	got, _, text, err := c.ask(method, target, body)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, target, err, c.errs)
	}
	if got != status {
		t.Fatalf("%s %s: got %d %q, want %d\n%s", method, target, got, text, status, c.errs)
	}
	return text
}

// finish closes the input and checks that the process ends well.
func (c *stdioClient) finish(t testing.TB) {
	t.Helper()
	_ = c.in.Close()
	if got := c.code(t); got != 0 {
		t.Errorf("exit code at the end of input: got %d, want 0\n%s", got, c.errs)
	}
}

// quick makes holders leave soon after the last request.
var quick = []string{idleVariable + "=1s"}

// stdioAt starts a stdio process as the borgstore client does.
func stdioAt(t testing.TB, dir string, extra ...string) *stdioClient {
	t.Helper()
	t.Cleanup(func() { endHolder(t, dir) })
	return startStdio(t, "/", quick, append([]string{restName, "--stdio", "--backend", "FILE:" + dir}, extra...)...)
}

// holderOf returns the process ID of the holder of dir, 0 if there is none.
func holderOf(dir string) int {
	if !holder.Held(dir) {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(dir, layout.OwnDir, "lock"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// endHolder stops a background holder, so that its directory can be removed.
func endHolder(t testing.TB, dir string) {
	t.Helper()
	await(t, "end of the holder", func() bool {
		if pid := holderOf(dir); pid != 0 && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			return false
		}
		return true
	})
}

// TestStdioStory is what `borg repo-create` and `repo-delete` do: each step is a process of its own.
func TestStdioStory(t *testing.T) {
	dir := filepath.Join(tempDir(t), "new", "repository")
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.finish(t)

	c = stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/config/readme", "this is a store")
	c.want(t, http.StatusNotFound, "GET", "/config/missing", "")
	c.want(t, http.StatusOK, "POST", "/packs/00/00aa", strings.Repeat("x", 1<<20))
	status, header, _, err := c.ask("HEAD", "/packs/00/00aa", "")
	if err != nil || status != http.StatusOK || header.Get("Content-Length") != "1048576" {
		t.Errorf("HEAD: got %d, length %q, error %v", status, header.Get("Content-Length"), err)
	}
	c.finish(t)

	c = stdioAt(t, dir)
	if got := c.want(t, http.StatusOK, "GET", "/config/readme", ""); got != "this is a store" {
		t.Errorf("item: got %q", got)
	}
	c.want(t, http.StatusOK, "GET", "//", "")
	c.finish(t)

	c = stdioAt(t, dir)
	c.want(t, http.StatusOK, "DELETE", "/?cmd=destroy", "")
	c.finish(t)
	await(t, "removal of the repository's directory", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

// TestStdioVacuums: where no server runs, the holder gives back what removed items take of the log, before it ends.
func TestStdioVacuums(t *testing.T) {
	dir := filepath.Join(tempDir(t), "repository")
	logBytes := func() (bytes int64) {
		files, err := filepath.Glob(filepath.Join(dir, index.LogDir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if info, err := os.Stat(name); err == nil {
				bytes += info.Size()
			}
		}
		return bytes
	}
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	const n, size = 420, 120_000
	for i := range n {
		c.want(t, http.StatusOK, "POST", fmt.Sprintf("/packs/%04d", i), strings.Repeat("x", size))
	}
	for i := range n {
		if i%50 > 0 {
			c.want(t, http.StatusOK, "DELETE", fmt.Sprintf("/packs/%04d", i), "")
		}
	}
	if got := logBytes(); got < n*size*9/10 {
		t.Fatalf("log: got %d bytes, want %d that a vacuum is needed for", got, n*size)
	}
	c.finish(t)
	await(t, "end of the holder", func() bool { return holderOf(dir) == 0 })
	if got := logBytes(); got > 20<<20 {
		t.Errorf("log: got %d bytes, want no more than a segment", got)
	}
	c = stdioAt(t, dir)
	for i := 0; i < n; i += 50 {
		if got := c.want(t, http.StatusOK, "GET", fmt.Sprintf("/packs/%04d", i), ""); got != strings.Repeat("x", size) {
			t.Errorf("item %d: got %d bytes", i, len(got))
		}
	}
	c.finish(t)
}

// TestStdioWithoutRepository: where there is no repository a client is told what the reference says, at once, and nothing is
// made.
func TestStdioWithoutRepository(t *testing.T) {
	type ask struct {
		method, target string
		status         int
	}
	for _, test := range []struct {
		name string
		make func(dir string) error
		asks []ask
	}{
		{"missing", func(string) error { return nil }, []ask{
			{"GET", "/config/config", 410}, {"HEAD", "/config", 410}, {"GET", "/packs/", 410}, {"POST", "/packs/x", 410}, {"DELETE", "/?cmd=destroy", 410},
		}},
		{"empty", func(dir string) error { return os.Mkdir(dir, 0o700) }, []ask{
			{"GET", "/config/config", 404}, {"HEAD", "/config", 404}, {"GET", "/packs/", 404}, {"GET", "/packs/x", 410}, {"POST", "/packs/x", 410},
			{"DELETE", "/?cmd=destroy", 410},
		}},
		// The volume may have been unmounted under a client that goes on with what it has begun.
		{"empty, for the client of an open repository", func(dir string) error { return os.Mkdir(dir, 0o700) }, []ask{
			{"GET", "/packs/x", 410}, {"HEAD", "/packs/x", 410}, {"GET", "/packs/", 410}, {"DELETE", "/locks/l", 410},
		}},
		{"destroyed, but kept", func(dir string) error { return os.MkdirAll(filepath.Join(dir, layout.RemovedDir, "x"), 0o700) }, []ask{
			{"GET", "/config/config", 410}, {"GET", "/packs/", 410},
		}},
		{"foreign", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "stuff"), 0o700) }, []ask{
			{"GET", "/config/config", 404}, {"HEAD", "/config", 404}, {"GET", "/stuff/", 404}, {"POST", "/packs/x", 409}, {"POST", "/?cmd=create", 409},
			{"POST", "/?%63md=create", 409}, {"DELETE", "/?cmd=destroy", 409}, {"GET", "/stuff/x", 409},
		}},
		{"borg 1", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "config"), []byte("[repository]"), 0o600))
		}, []ask{{"GET", "/config/config", 404}, {"HEAD", "/config", 200}, {"GET", "/config", 409}, {"POST", "/?cmd=create", 409}}},
		{"a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, []ask{{"GET", "/config/config", 410}, {"POST", "/?cmd=create", 409}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := tempDir(t)
			dir := filepath.Join(top, "r")
			if err := test.make(dir); err != nil {
				t.Fatal(err)
			}
			before := names(t, top)
			c := stdioAt(t, dir)
			for _, ask := range test.asks {
				c.want(t, ask.status, ask.method, ask.target, "")
			}
			if holderOf(dir) != 0 {
				t.Error("a holder was started")
			}
			c.finish(t)
			if after := names(t, top); !slices.Equal(after, before) {
				t.Errorf("files: got %q, want %q", after, before)
			}
		})
	}
}

// names are the paths of all that lies below a directory.
func names(t *testing.T, top string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestStdioLeavesNothing: when a client has destroyed its repository, or may not create one, nothing of it is there when its
// process has ended, although holders wait a minute for others; what was there before stays.
func TestStdioLeavesNothing(t *testing.T) {
	for _, test := range []struct {
		name, dir string
		asks      func(t *testing.T, c *stdioClient)
		left      string
	}{
		{"destroyed", "a/b/c", func(t *testing.T, c *stdioClient) {
			c.want(t, 200, "POST", "/?cmd=create", "")
			c.want(t, 200, "POST", "/packs/x", strings.Repeat("x", 1<<20))
			c.want(t, 200, "DELETE", "/?cmd=destroy", "")
		}, ""},
		{"destroyed, in a directory that was there", "there", func(t *testing.T, c *stdioClient) {
			c.want(t, 200, "POST", "/?cmd=create", "")
			c.want(t, 200, "DELETE", "/?cmd=destroy", "")
		}, ""},
		{"refused", "there", func(t *testing.T, c *stdioClient) { c.want(t, 403, "POST", "/?cmd=create", "") }, "there"},
		{"refused, in a new directory", "a/b", func(t *testing.T, c *stdioClient) { c.want(t, 403, "POST", "/?cmd=create", "") }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := tempDir(t)
			dir := filepath.Join(top, test.dir)
			if test.dir == "there" {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			args := []string{restName, "--stdio", "--backend", "FILE:" + dir}
			if strings.HasPrefix(test.name, "refused") {
				args = append(args, "--permissions", "read-only")
			}
			t.Cleanup(func() { endHolder(t, dir) })
			c := startStdio(t, "/", []string{idleVariable + "=1m"}, args...)
			test.asks(t, c)
			c.finish(t)
			left := strings.TrimPrefix(strings.TrimPrefix(strings.Join(names(t, top), " "), top), " "+top+"/")
			if left != test.left {
				t.Errorf("left: got %q, want %q", left, test.left)
			}
		})
	}
}

// TestHolderEndsUnasked: a holder whose client was killed before it had created a repository ends at once, with what it made.
func TestHolderEndsUnasked(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "r")
	t.Cleanup(func() { endHolder(t, dir) })
	c := startStdio(t, "/", []string{idleVariable + "=1m"}, restName, "--stdio", "--backend", "FILE:"+dir, "--permissions", "read-only")
	c.want(t, 403, "POST", "/?cmd=create", "")
	if holderOf(dir) == 0 {
		t.Fatal("there is no holder")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	await(t, "removal of what was made", func() bool { return len(names(t, top)) == 1 })
	if took := time.Since(began); took > emptyIdle {
		t.Errorf("it took %v, want less than %v", took, emptyIdle)
	}
}

func TestStdioRefusals(t *testing.T) {
	top := tempDir(t)
	foreign := filepath.Join(top, "foreign")
	for _, name := range []string{"config", "packs", "keys"} {
		if err := os.MkdirAll(filepath.Join(foreign, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  []string
		args []string
		code int
		want string // in stderr
	}{
		{"foreign", nil, []string{restName, "--stdio", "--backend", "FILE:" + foreign}, 0, "found config, keys, packs"},
		{"foreign, over TCP", nil, []string{restName, "--port", "0", "--backend", "FILE:" + foreign}, 1, "found config, keys, packs"},
		{"a file", nil, []string{restName, "--stdio", "--backend", "FILE:" + file}, 0, "not a directory"},
		{"no backend", nil, []string{restName, "--stdio"}, 2, "--backend is required"},
		{"file URL with host", nil, []string{restName, "--stdio", "--backend", "file://host/x"}, 1, "without a host"},
		{"short file URL", nil, []string{restName, "--stdio", "--backend", "file:/x"}, 1, "file:///"},
		{"bare path", nil, []string{restName, "--stdio", "--backend", "/x"}, 1, "write FILE:path"},
		{"another backend", nil, []string{restName, "--stdio", "--backend", "sftp://h/x"}, 1, "on a disk of this machine"},
		{"unknown option", nil, []string{restName, "--nope"}, 2, "unknown flag"},
		{"argument", nil, []string{restName, "x"}, 2, "takes no arguments"},
		{"empty credentials", nil, []string{restName, "--backend", "FILE:x", "--username", "", "--password", ""}, 1, "must be given together"},
		{"half credentials", nil, []string{restName, "--backend", "FILE:x", "--username", "u", "--password", ""}, 1, "must be given together"},
		{"permissions", nil, []string{restName, "--backend", "FILE:x", "--permissions", "{"}, 1, "not a JSON object"},
		{"preset", nil, []string{restName, "--backend", "FILE:x", "--permissions", "nothing"}, 1, "expected a JSON object"},
		{"quota", nil, []string{restName, "--backend", "FILE:x", "--quota", "lots"}, 1, "not a size"},
		{"no passed socket", nil, []string{restName, "--backend", "FILE:" + filepath.Join(top, "s"), "--socket-activation"}, 1, "exactly one socket"},
		{"two passed sockets", []string{"LISTEN_FDS=2"}, []string{restName, "--backend", "FILE:" + filepath.Join(top, "s"), "--socket-activation"}, 1, "exactly one socket"},
		{"port", nil, []string{restName, "--backend", "FILE:" + filepath.Join(top, "s"), "--port", "99999"}, 1, "not a port"},
		{"outside", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:" + top + "/x", "--restrict-to-path", top + "/y"}, 83, "not allowed"},
		{"a sibling with the same start", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:" + top + "/yy", "--restrict-to-path", top + "/y"}, 83, "not allowed"},
		{"dots", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:" + top + "/y/../x", "--restrict-to-path", top + "/y"}, 83, "not allowed"},
		{"below the one", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:" + top + "/y/z", "--restrict-to-repository", top + "/y"}, 83, "not allowed"},
		{"URL under restriction", nil, []string{"packhouse", "serve", "--rest", "--backend", "file://" + top + "/y", "--restrict-to-path", top + "/y"}, 83, "only FILE:"},
		{"forced, no backend asked", []string{"SSH_ORIGINAL_COMMAND=sh"}, []string{"packhouse", "serve", "--rest"}, 83, "must ask for"},
		{"forced, other place asked", []string{"SSH_ORIGINAL_COMMAND=borg serve --rest --backend FILE:" + top + "/x"}, []string{"packhouse", "serve", "--rest", "--restrict-to-path", top + "/y"}, 83, "not allowed"},
		{"backend without rest", nil, []string{"packhouse", "serve", "--backend", "FILE:x"}, 2, "can only be used with --rest"},
		{"restriction without rest", nil, []string{"packhouse", "serve", "--restrict-to-path", "x"}, 2, "can only be used with --rest"},
		{"borg's option without rest", nil, []string{"packhouse", "serve", "--umask", "077"}, 2, "can only be used with --rest"},
		{"a data directory with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "-d", "x"}, 2, "--data-dir cannot be used with --rest"},
		{"grace with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "--grace", "7d"}, 2, "--grace cannot be used with --rest"},
		{"empty quota with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "--quota", ""}, 2, "--quota: must not be empty"},
		{"empty permissions with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "--permissions", ""}, 2, "--permissions: must not be empty"},
		{"empty role with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "--role", ""}, 2, "--role: must not be empty"},
		{"role with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "--role", "reed"}, 1, `did you mean "read"?`},
		{"role without rest", nil, []string{"packhouse", "serve", "--role", "read"}, 2, "can only be used with --rest"},
		{"role of the original", nil, []string{restName, "--backend", "FILE:x", "--role", "read"}, 2, "unknown flag"},
		{"quota with rest", nil, []string{"packhouse", "serve", "--rest", "--backend", "FILE:x", "--quota", "lots"}, 1, "not a size"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startStdio(t, top, test.env, test.args...)
			_ = c.in.Close()
			if got := c.code(t); got != test.code {
				t.Errorf("exit code: got %d, want %d", got, test.code)
			}
			if !strings.Contains(c.errs.String(), test.want) {
				t.Errorf("stderr: got %q, want %q in it", c.errs, test.want)
			}
			if out, _ := io.ReadAll(c.out); len(out) > 0 {
				t.Errorf("stdout: got %q, want nothing", out)
			}
		})
	}
	for dir, had := range map[string]string{top: "foreign file", foreign: "config packs keys"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.Contains(had, entry.Name()) {
				t.Errorf("a refused start left %s in %s", entry.Name(), dir)
			}
		}
	}
}

// TestRestrictionAndLinks: a restriction looks at where a path leads, not at how it is spelled.
func TestRestrictionAndLinks(t *testing.T) {
	top := tempDir(t)
	for _, dir := range []string{"in", "out"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"in/away": "out", "in/nowhere": "none", "alias": "in"} {
		if err := os.Symlink(filepath.Join(top, target), filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		path, restriction, root string
		code                    int
	}{
		{"in/r", "path", "in", 0},
		{"alias/r", "path", "in", 0},
		{"in/r", "path", "alias", 0},
		{"in/away/../r", "path", "in", 0}, // as borg normalises it
		{"alias/r", "repository", "in/r", 0},
		{"in/away/r", "path", "in", exitRestricted},
		{"in/away", "path", "in", exitRestricted},
		{"in/../out/r", "path", "in", exitRestricted},
		{"alias/../out", "repository", "in", exitRestricted},
		{"in/nowhere", "path", "in", exitFailure},
		{"in/nowhere/r", "path", "in", exitFailure},
	} {
		c := startStdio(t, top, quick, "packhouse", "serve", "--rest", "--backend", "FILE:"+top+"/"+test.path, "--restrict-to-"+test.restriction, filepath.Join(top, test.root))
		_ = c.in.Close()
		if got := c.code(t); got != test.code {
			t.Errorf("%s with %s %s: got exit code %d, want %d\n%s", test.path, test.restriction, test.root, got, test.code, c.errs)
		}
	}
	endHolder(t, filepath.Join(top, "in", "r"))
	for _, dir := range []string{"out", "none"} {
		if entries, _ := os.ReadDir(filepath.Join(top, dir)); len(entries) != 0 {
			t.Errorf("outside: %v", entries)
		}
	}
}

// TestNested: no repository inside another one, nor inside what holders keep, whoever chooses the directory.
func TestNested(t *testing.T) {
	top := tempDir(t)
	c := stdioAt(t, filepath.Join(top, "r"))
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.finish(t)
	endHolder(t, filepath.Join(top, "r"))
	for path, want := range map[string]string{
		"r/x": "inside a repository", "r/blobs/00": "inside a repository", "r/incoming/x/y": "inside a repository",
		".packhouse": "packhouse's own", "r/.packhouse/x": "packhouse's own",
	} {
		dir := filepath.Join(top, path)
		for _, args := range [][]string{
			{"packhouse", "serve", "--rest", "--restrict-to-path", top, "--backend", "FILE:" + dir},
			{restName, "--stdio", "--backend", "FILE:" + dir},
			{restName, "--port", "0", "--backend", "FILE:" + dir},
			{"packhouse", "serve", "--listen", "127.0.0.1:0", "--data-dir", dir},
		} {
			c := startStdio(t, top, nil, args...)
			_ = c.in.Close()
			if got := c.code(t); got != 1 || !strings.Contains(c.errs.String(), want) {
				t.Errorf("%q: got exit code %d, %q; want 1, %q", args, got, c.errs, want)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, layout.IndexFile)); err == nil {
			t.Errorf("%s became a repository", path)
		}
	}
	// Beside it is fine, and so is a directory that happens to be below a file of that name.
	write(t, filepath.Join(top, layout.IndexFile), "not ours")
	c = stdioAt(t, filepath.Join(top, "s"))
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.finish(t)
}

// TestForcedCommand: the client names the repository, the administrator's command line decides the rest.
func TestForcedCommand(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "with blank")
	setup := stdioAt(t, dir)
	setup.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	setup.finish(t)
	c := startStdio(t, top, append(quick, "SSH_ORIGINAL_COMMAND=borg serve --rest --permissions all --backend 'FILE:"+dir+"' --info"),
		"packhouse", "serve", "--rest", "--restrict-to-path", top, "--permissions", "read-only", "--backend", "FILE:/elsewhere")
	c.want(t, http.StatusForbidden, "POST", "/packs/00/aa", "x")
	c.want(t, http.StatusOK, "POST", "/locks/aa", "x")
	c.finish(t)

	// A forced backend without restrictions is the only one.
	c = startStdio(t, top, append(quick, "SSH_ORIGINAL_COMMAND=borg serve --rest --backend FILE:/elsewhere"),
		"packhouse", "serve", "--rest", "--backend", "FILE:"+dir)
	c.want(t, http.StatusOK, "GET", "/locks/aa", "")
	c.finish(t)
}

// TestStdioCredentials: those of the command line are asked for on stdio too, and bodies of refused requests are read.
func TestStdioCredentials(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	c := stdioAt(t, dir, "--username", "u", "--password", "p")
	c.want(t, http.StatusUnauthorized, "POST", "/?cmd=create", strings.Repeat("x", 1<<20))
	c.want(t, http.StatusUnauthorized, "GET", "/", "")
	c.finish(t)
}

func TestStdioStaysInStep(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	big := strings.Repeat("x", 3<<20)
	c.want(t, http.StatusBadRequest, "POST", "/a/../b", big)
	c.want(t, http.StatusBadRequest, "POST", "/?cmd=nothing", big)
	if _, err := io.WriteString(c.in, "GET / HTTP/1.1\r\nAccept: */*\r\n\r\nPOST /x HTTP/1.1\r\nAccept: x\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		line, err := c.out.ReadString('\n')
		if err != nil || !strings.Contains(line, "406") {
			t.Fatalf("got %q, %v; want 406", line, err)
		}
		for length := 0; ; {
			line, err := c.out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(n))
			}
			if strings.TrimSpace(line) == "" {
				_, err = c.out.Discard(length)
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	c.want(t, http.StatusNotFound, "GET", "/missing", "")
	c.finish(t)
}

// TestStdioCutBody: an upload that breaks off is not stored.
func TestStdioCutBody(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	for _, length := range []int{10, 1 << 20} {
		c := stdioAt(t, dir)
		if status, _, _, err := c.ask("POST", "/?cmd=create", ""); err != nil || status != 200 && status != 409 {
			t.Fatalf("create: %d, %v", status, err)
		}
		fmt.Fprintf(c.in, "POST /packs/x HTTP/1.1\r\nAccept: %s\r\nContent-Length: %d\r\n\r\nshort", acceptBorgStore, length)
		c.finish(t)
		c = stdioAt(t, dir)
		c.want(t, http.StatusNotFound, "GET", "/packs/x", "")
		c.finish(t)
	}
}

func TestStdioQuotaAndPermissions(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.finish(t)
	c = stdioAt(t, dir, "--quota", "10", "--permissions", `{"":"lrw"}`)
	c.want(t, http.StatusOK, "POST", "/a", "12345678")
	c.want(t, http.StatusInsufficientStorage, "POST", "/b", "123")
	c.want(t, http.StatusForbidden, "DELETE", "/a", "")
	// Each client has its own, whoever asked last; one that has none is not held to another's.
	large, free := stdioAt(t, dir, "--quota", "20"), stdioAt(t, dir)
	for range 2 {
		for c, want := range map[*stdioClient]string{c: `{"limit": 10, "usage": 8}`, large: `{"limit": 20, "usage": 8}`, free: `{"limit": -1, "usage": -1}`} {
			if status, _, got, err := c.ask("POST", "/?cmd=quota", ""); err != nil || status != http.StatusOK || got != want {
				t.Errorf("quota: got %d %s, %v, want %s", status, got, err, want)
			}
		}
	}
	large.want(t, http.StatusOK, "POST", "/b", "123456789012")
	large.want(t, http.StatusInsufficientStorage, "POST", "/c", "1")
	c.want(t, http.StatusInsufficientStorage, "POST", "/c", "1")
	free.want(t, http.StatusOK, "POST", "/c", "1")
	for _, c := range []*stdioClient{c, large, free} {
		c.finish(t)
	}
}

// TestServeRestLimits: what an administrator forces on a client of `serve --rest` holds.
func TestServeRestLimits(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.want(t, http.StatusOK, "POST", "/packs/a", "12345678")
	c.finish(t)
	rest := func(args ...string) *stdioClient {
		return startStdio(t, "/", quick, append([]string{"packhouse", "serve", "--rest", "--backend", "FILE:" + dir}, args...)...)
	}
	c = rest("--quota", "10", "--append-only", "--debug", "--lock-wait", "5")
	c.want(t, http.StatusInsufficientStorage, "POST", "/packs/b", "123")
	c.want(t, http.StatusOK, "POST", "/packs/b", "12")
	c.want(t, http.StatusForbidden, "DELETE", "/packs/a", "")
	c.want(t, http.StatusOK, "POST", "/locks/a", "")
	c.want(t, http.StatusOK, "DELETE", "/locks/a", "")
	c.finish(t)

	// Of two rules both hold; the quota 0 is none, as everywhere in serve.
	c = rest("--quota", "0", "--append-only", "--permissions", `{"":"lrD"}`)
	c.want(t, http.StatusForbidden, "POST", "/packs/c", "")
	c.want(t, http.StatusForbidden, "DELETE", "/packs/a", "")
	c.finish(t)
	c = rest()
	c.want(t, http.StatusOK, "POST", "/packs/c", "123456789")
	c.finish(t)
}

// TestManyPipes: stdio processes that begin at the same moment share one holder, which is killed now and
// then. Requests that were not under way at the kill are answered as if nothing had been.
func TestManyPipes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "r")
	setup := stdioAt(t, dir)
	setup.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	setup.finish(t)
	endHolder(t, dir)

	const pipes, rounds = 8, 4
	clients := make([]*stdioClient, pipes)
	for i := range clients {
		clients[i] = stdioAt(t, dir)
	}
	for round := range rounds {
		var wait sync.WaitGroup
		for i, c := range clients {
			wait.Go(func() {
				for n := range 5 {
					key := fmt.Sprintf("/packs/%02d/%d-%d", i, round, n)
					body := strings.Repeat(key, 1+n*10_000)
					if status, _, text, err := c.ask("POST", key, body); err != nil || status != 200 {
						t.Errorf("store %s: %d %q %v\n%s", key, status, text, err, c.errs)
						return
					}
					if status, _, got, err := clients[i].ask("GET", key, ""); err != nil || status != 200 || got != body {
						t.Errorf("load %s: %d, %d bytes, %v\n%s", key, status, len(got), err, c.errs)
						return
					}
				}
			})
		}
		wait.Wait()
		if t.Failed() {
			return
		}
		pid := holderOf(dir)
		if pid == 0 {
			t.Fatal("nobody holds the repository")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "end of the killed holder", func() bool { return holderOf(dir) != pid })
	}
	for i, c := range clients {
		for round := range rounds {
			for n := range 5 {
				c.want(t, http.StatusOK, "HEAD", fmt.Sprintf("/packs/%02d/%d-%d", i, round, n), "")
			}
		}
		c.finish(t)
	}
}

// TestUpgrade: a pipe whose program was replaced meanwhile still finds one to start a holder with.
func TestUpgrade(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "r")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	installed := filepath.Join(top, "packhouse")
	if err := os.WriteFile(installed, text, 0o700); err != nil {
		t.Fatal(err)
	}
	c := startStdioOf(t, installed, top, quick, restName, "--stdio", "--backend", "FILE:"+dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	if err := os.Remove(installed); err != nil {
		t.Fatal(err)
	}
	endHolder(t, dir)
	c.want(t, http.StatusOK, "POST", "/packs/a", "x")
	c.finish(t)
	endHolder(t, dir)
}

// TestKilledDuringRequests: a pipe whose holder dies with its request ends, and what was acknowledged is there.
func TestKilledDuringRequests(t *testing.T) {
	dir := filepath.Join(tempDir(t), "r")
	setup := stdioAt(t, dir)
	setup.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	setup.finish(t)
	var mu sync.Mutex
	acknowledged := make(map[string]string)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			c := stdioAt(t, dir)
			for n := 0; ; n++ {
				select {
				case <-stop:
					c.finish(t)
					return
				default:
				}
				key, body := fmt.Sprintf("/packs/%d/%d", i, n), strings.Repeat(strconv.Itoa(n), 30_000)
				status, _, text, err := c.ask("POST", key, body)
				switch {
				case err != nil: // lost: as the real client, again with a new process
					_ = c.in.Close()
					<-c.exited // not in the middle of starting a holder
					c = stdioAt(t, dir)
				case status != http.StatusOK:
					t.Errorf("store %s: %d %q", key, status, text)
					return
				default:
					mu.Lock()
					acknowledged[key] = body
					mu.Unlock()
				}
			}
		})
	}
	for range 6 {
		mu.Lock()
		before := len(acknowledged)
		mu.Unlock()
		await(t, "progress", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged) >= before+20 || t.Failed()
		})
		if pid := holderOf(dir); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	close(stop)
	wait.Wait()
	c := stdioAt(t, dir)
	for key, body := range acknowledged {
		if got := c.want(t, http.StatusOK, "GET", key, ""); got != body {
			t.Errorf("%s: got %d bytes, want %d", key, len(got), len(body))
		}
	}
	c.finish(t)
}

// TestStdioBesideServe: pipes use a server of the directory above, go on when it begins, and go on when it ends.
func TestStdioBesideServe(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "data", "r")
	setup := stdioAt(t, dir)
	setup.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	setup.finish(t)

	stop := make(chan struct{})
	var mu sync.Mutex
	done := make([]int, 6)
	var wait sync.WaitGroup
	for i := range done {
		c := stdioAt(t, dir)
		wait.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					c.finish(t)
					return
				default:
				}
				key, body := fmt.Sprintf("/packs/%d/%d", i, n), strings.Repeat(strconv.Itoa(n), 1+n%3*50_000)
				for _, step := range []struct{ method, target, body string }{
					{"POST", key, body}, {"GET", key, ""}, {"POST", "/?cmd=move&current=" + key[1:] + "&new=" + key[1:] + ".del", ""}, {"DELETE", key + ".del", ""},
				} {
					if status, _, text, err := c.ask(step.method, step.target, step.body); err != nil || status != 200 {
						t.Errorf("%s %s: %d %q %v\n%s", step.method, step.target, status, text, err, c.errs)
						return
					}
				}
				mu.Lock()
				done[i]++
				mu.Unlock()
			}
		})
	}
	progress := func() {
		t.Helper()
		mu.Lock()
		before := append([]int(nil), done...)
		mu.Unlock()
		await(t, "progress of every pipe", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := range done {
				if done[i] < before[i]+3 && !t.Failed() {
					return false
				}
			}
			return true
		})
	}
	progress()
	for range 3 {
		s := startServer(t, top, "--data-dir", filepath.Join(top, "data"))
		progress()
		if pid := holderOf(dir); pid != 0 {
			t.Errorf("process %d holds the repository beside the server", pid)
		}
		s.expect(t, http.StatusOK, "GET", "/r/packs/", "")
		if got := s.stop(t, syscall.SIGTERM); got != 0 {
			t.Errorf("exit code of the server: got %d, want 0\n%s", got, s.errs)
		}
		progress()
	}
	close(stop)
	wait.Wait()
}

// TestLinkedRepository: a server takes a repository that a symbolic link brings in from its holder.
func TestLinkedRepository(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "elsewhere", "r")
	c := stdioAt(t, dir)
	c.want(t, http.StatusOK, "POST", "/?cmd=create", "")
	c.want(t, http.StatusOK, "POST", "/a", "x")
	if err := os.Mkdir(filepath.Join(top, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(top, "data", "r")); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, top, "-d", filepath.Join(top, "data"))
	s.expect(t, http.StatusOK, "GET", "/r/a", "")
	// The pipe cannot know where to go now, and says why.
	if status, _, _, err := c.ask("GET", "/a", ""); err == nil {
		t.Errorf("the pipe answered %d", status)
	}
	if got := c.code(t); got != 1 || !strings.Contains(c.errs.String(), "another process has the repository open") {
		t.Errorf("the pipe: exit code %d, %s", got, c.errs)
	}
}

// TestTwoServers: the second says who has the directory.
func TestTwoServers(t *testing.T) {
	dir := tempDir(t)
	s := startServer(t, dir)
	second := program(t, dir, "packhouse", "serve", "--listen", "127.0.0.1:0")
	out, err := second.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("second server: got %v, want exit code 1", err)
	}
	if want := fmt.Sprintf("the data directory is in use by process %d", s.Process.Pid); !strings.Contains(string(out), want) {
		t.Errorf("got %q, want %q in it", out, want)
	}
}

// TestStdioEndsWithItsClient: a process whose client is gone ends, although it still waits for a holder.
func TestStdioEndsWithItsClient(t *testing.T) {
	top := tempDir(t)
	claim, err := holder.ClaimData(t.Context(), top) // that never answers
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Release()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	_ = write.Close()
	var out, errs buffer
	p := stdioProcess{parsed: parsed{dir: filepath.Join(top, "r")}, find: time.Hour, end: time.Millisecond}
	if err := p.run(t.Context(), streams{read, &out, &errs}); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// TestStdioEndsUnread: when a client goes during a request that changes nothing, the process ends and the holder learns of it at
// once; a change goes on for a while.
func TestStdioEndsUnread(t *testing.T) {
	for _, test := range []struct {
		message string
		goesOn  bool
	}{
		{"POST /packs/large?cmd=hash HTTP/1.1\r\nContent-Length: 0\r\n", false},
		{"POST /?cmd=defrag HTTP/1.1\r\nContent-Length: 0\r\n", true},
	} {
		t.Run(test.message[:strings.Index(test.message, " HTTP")], func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "r")
			begun, ended := make(chan struct{}), make(chan struct{})
			serveHeld(t, dir, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != stdio.PathHello {
					close(begun)
					<-r.Context().Done()
					close(ended)
				}
			})
			in, request, inErr := os.Pipe()
			answers, out, outErr := os.Pipe()
			if err := errors.Join(inErr, outErr); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = in.Close(), out.Close() })
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			done := make(chan error, 1)
			p := stdioProcess{parsed: parsed{dir: dir}, find: time.Minute, end: time.Hour}
			go func() { done <- p.run(ctx, streams{in, out, &buffer{}}) }()
			fmt.Fprintf(request, "%sAccept: %s\r\n\r\n", test.message, acceptBorgStore)
			select {
			case <-begun:
			case <-time.After(20 * time.Second):
				t.Fatal("the request does not arrive")
			}
			request.Close()
			answers.Close()
			select {
			case err := <-done:
				done <- err // for who waits below
				if <-ended; err != nil || test.goesOn {
					t.Errorf("the process ended: %v; goes on: want %v", err, test.goesOn)
				}
			case <-time.After(3 * time.Second):
				if !test.goesOn {
					t.Error("the process goes on, although nobody reads the answer")
				}
			}
			stop()
			<-ended
			<-done // before its streams are closed
		})
	}
}

// serveHeld holds a directory, of which it looks as if it had a repository, and answers what comes through its socket.
func serveHeld(t *testing.T, dir string, handler http.HandlerFunc) {
	t.Helper()
	claim, err := holder.ClaimData(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, layout.IndexFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := claim.Listen()
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), claim.Release()); err != nil {
			t.Error(err)
		}
	})
}
