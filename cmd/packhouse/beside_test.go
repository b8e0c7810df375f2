package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo/adopt"
)

// sourceFiles are the files and directories below a directory, with what must not change of them.
func sourceFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			st := info.Sys().(*syscall.Stat_t)
			found[path] = fmt.Sprint(st.Ino, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantSameFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := sourceFiles(t, dir)
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("%s: got %s, want %s", path, got[path], want[path])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files in %s, want %d", len(got), dir, len(want))
	}
}

// vgerDir makes a directory as vger-server leaves it, in dir.
func vgerDir(t *testing.T, dir string) {
	t.Helper()
	for name, body := range map[string]string{"config": "\x9a\x02", "index": "i", "keys/repokey": "k", "snapshots/" + strings.Repeat("ab", 32): "s"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// interruptAdoption leaves an adoption that lacks only the index.
func interruptAdoption(t *testing.T, source, into, name string) {
	t.Helper()
	if err := os.MkdirAll(into, 0o700); err != nil {
		t.Fatal(err)
	}
	failing := vfstest.NewFailing(vfs.OS())
	failing.FailOp(vfstest.Rename, 3, vfstest.Before, syscall.EIO) // the mark, the list, the index
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: source, Into: into, Name: name, FS: failing}); err == nil {
		t.Fatal("adopt: no error")
	}
}

// vgerDo sends a V'Ger request with the server's token.
func (r *running) vgerDo(t *testing.T, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestServeAdopts: a server with --adopt that is pointed at the directory of another makes a repository of it beside it and serves that where
// the clients of the other look for it; the next starts only serve it, also when the directory has been removed.
func TestServeAdopts(t *testing.T) {
	source := borgDir(t, 3)
	before := sourceFiles(t, source)
	beside := source + ".packhouse"
	args := []string{"-d", source, "--adopt"}
	interruptAdoption(t, source, beside, "borg") // and the start continues it
	s := startServer(t, t.TempDir(), args...)
	s.errs.await(t, `adopted; its items are unverified.*files=6`)
	for _, path := range []string{"/config/manifest", "/borg/config/manifest"} {
		if got := s.expect(t, http.StatusOK, "GET", path, ""); got != "m" {
			t.Errorf("%s: got %q", path, got)
		}
	}
	s.expect(t, http.StatusOK, "POST", "/config/new", "stored since")
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code: got %d, want 0\n%s", got, s.errs)
	}
	wantSameFiles(t, source, before)

	s = startServer(t, t.TempDir(), args...)
	s.errs.await(t, `was adopted before`)
	s.expect(t, http.StatusOK, "GET", "/config/new", "")
	s.stop(t, syscall.SIGTERM)
	wantSameFiles(t, source, before)
	if code, _, errs := runHere(t, "serve", "--listen", "127.0.0.1:0", "-d", source); code != 1 || !match(`was adopted as `+filepath.Join(beside, "borg"), errs) {
		t.Errorf("without --adopt: got %d, %s", code, errs)
	}

	for _, gone := range []func() error{
		func() error { return os.RemoveAll(source) },
		func() error { return os.Mkdir(source, 0o700) },
	} {
		if err := gone(); err != nil {
			t.Fatal(err)
		}
		s = startServer(t, t.TempDir(), args...)
		s.expect(t, http.StatusOK, "GET", "/config/new", "")
		s.stop(t, syscall.SIGTERM)
	}
}

// TestServeAdoptsByConfiguration: the file of vger-server names the directory; the repository has the name that is mounted, if one is.
func TestServeAdoptsByConfiguration(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "vykar")
	vgerDir(t, source)
	before := sourceFiles(t, source)
	file := filepath.Join(dir, "vger-server.toml")
	for more, name := range map[string]string{"": "vykar", "[[repository]]\nname = \"vault\"\nmount = \"/\"\n": "vault"} {
		text := fmt.Sprintf("[server]\ndata_dir = %q\n%s", source, more)
		if err := errors.Join(os.RemoveAll(source+".packhouse"), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		s := startServer(t, dir, "--config", file, "--adopt")
		for _, path := range []string{"/config", "/" + name + "/config"} {
			if got := s.vgerDo(t, "GET", path); got != http.StatusOK {
				t.Errorf("%s: got %d\n%s", path, got, s.errs)
			}
		}
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.errs.await(t, `reloaded the configuration`)
		if strings.Contains(s.errs.String(), "needs a restart") {
			t.Errorf("after a reload: %s", s.errs)
		}
		s.stop(t, syscall.SIGTERM)
	}
	wantSameFiles(t, source, before)
}

// TestServeAdoptsSeveral: the servers of the first generations of V'Ger kept several repositories in a directory; each has its name as before.
func TestServeAdoptsSeveral(t *testing.T) {
	source := filepath.Join(t.TempDir(), "vger")
	for _, name := range []string{"one", "two"} {
		vgerDir(t, filepath.Join(source, name))
	}
	if err := os.WriteFile(filepath.Join(source, "notes"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := sourceFiles(t, source)
	for range 2 {
		s := startServer(t, t.TempDir(), "-d", source, "--adopt")
		for path, want := range map[string]int{"/one/config": 200, "/two/config": 200, "/config": 400, "/notes/config": 404} {
			if got := s.vgerDo(t, "GET", path); got != want {
				t.Errorf("%s: got %d, want %d", path, got, want)
			}
		}
		s.stop(t, syscall.SIGTERM)
	}
	wantSameFiles(t, source, before)
}

// TestServeAdoptsNothing: what cannot be adopted is told in one line, and nothing is made; a directory of ours is served as without the flag.
func TestServeAdoptsNothing(t *testing.T) {
	fresh := borgDir(t, 1)
	lock := filepath.Join(fresh, "locks", strings.Repeat("ab", 32))
	if err := errors.Join(os.Mkdir(filepath.Dir(lock), 0o755), os.WriteFile(lock, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	unknown := t.TempDir()
	if err := os.WriteFile(filepath.Join(unknown, "notes"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		fresh:   `may be in use.*packhouse adopt ` + fresh + ` --as borg\S* -d \S+`,
		unknown: `none of the layouts of BorgStore's file backend`,
	} {
		before := sourceFiles(t, dir)
		for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0", "-d", dir, "--adopt"}, {restName, "--port", "0", "--backend", "file://" + dir, "--adopt"}} {
			code, _, errs := runHere(t, args...)
			if code != 1 || !match(want, errs) || strings.Count(errs, "packhouse: ") != 1 {
				t.Errorf("%v: got %d, %s", args, code, errs)
			}
		}
		wantSameFiles(t, dir, before)
		if _, err := os.Stat(dir + ".packhouse"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("beside %s: %v", dir, err)
		}
	}

	ours := createdRepository(t, "r")
	s := startServer(t, t.TempDir(), "-d", ours, "--adopt")
	if got := s.vgerDo(t, "POST", "/r?init"); got != http.StatusCreated {
		t.Errorf("a directory of ours: got %d\n%s", got, s.errs)
	}
	s.stop(t, syscall.SIGTERM)
	empty := filepath.Join(t.TempDir(), "new")
	s = startServer(t, t.TempDir(), "-d", empty, "--adopt")
	s.expect(t, http.StatusOK, "POST", "/new/?cmd=create", "")
	s.stop(t, syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(empty, "new", "index.db")); err != nil {
		t.Error(err)
	}
}

// TestServeAdoptsOnlyThis: what lies beside the directory under its name and came from elsewhere is not served in its place.
func TestServeAdoptsOnlyThis(t *testing.T) {
	source, other := borgDir(t, 1), borgDir(t, 1)
	beside := source + ".packhouse"
	if err := os.Mkdir(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: other, Into: beside, Name: "borg"}); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runHere(t, "serve", "--listen", "127.0.0.1:0", "-d", source, "--adopt"); code != 1 || !match(`was adopted from `+other+`, not from `+source, errs) {
		t.Errorf("got %d, %s", code, errs)
	}
}

// TestRestServerAdopts is TestServeAdopts with the command line of borgstore's own server.
func TestRestServerAdopts(t *testing.T) {
	source := borgDir(t, 3)
	before := sourceFiles(t, source)
	if code, _, errs := runHere(t, restName, "--port", "0", "--backend", "file://"+source); code != 1 || !match(`is a directory of BorgStore's file backend.*packhouse adopt `+source+` --as NAME -d NEW.*--adopt`, errs) {
		t.Errorf("without --adopt: got %d, %s", code, errs)
	}
	if code, _, errs := runHere(t, restName, "--stdio", "--backend", "file://"+source, "--adopt"); code != 2 || !match(`cannot be used with --stdio`, errs) {
		t.Errorf("stdio: got %d, %s", code, errs)
	}
	interruptAdoption(t, source, filepath.Dir(source), "borg.packhouse")
	for i := range 3 {
		s := startRest(t, source, "--adopt")
		s.expect(t, http.StatusOK, "GET", "/config/manifest", "")
		s.expect(t, http.StatusOK, "POST", fmt.Sprint("/config/new", i), "x")
		s.expect(t, http.StatusOK, "GET", "/config/new0", "")
		s.stop(t, syscall.SIGTERM)
		switch i {
		case 0:
			wantSameFiles(t, source, before)
		case 1:
			made := source + ".packhouse"
			for _, c := range []struct {
				code int
				want string
				args []string
			}{
				{0, `done`, []string{"scrub", "--wait"}},
				{2, `--finish borg\.packhouse`, []string{"adopt", "--finish", "other", "--yes"}},
				{0, `removed 6 files`, []string{"adopt", "--finish", "borg.packhouse", "--yes"}},
			} {
				if code, out, errs := runHere(t, append(c.args, "-d", made)...); code != c.code || !match(c.want, out+errs) {
					t.Errorf("%v: got %d, %s, %s", c.args, code, out, errs)
				}
			}
			if _, err := os.Stat(source); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the directory: %v", err)
			}
		}
	}
	theirs := filepath.Join(t.TempDir(), "vykar")
	vgerDir(t, theirs)
	if code, _, errs := runHere(t, restName, "--port", "0", "--backend", "file://"+theirs, "--adopt"); code != 1 || !match(`use packhouse serve --adopt -d `+theirs, errs) {
		t.Errorf("a directory of V'Ger: got %d, %s", code, errs)
	}
}

// TestAdoptsAnyName: the directory may have a name that a data directory has to escape, or that no repository has.
func TestAdoptsAnyName(t *testing.T) {
	for _, name := range []string{"büro+1", "=(1)="} {
		source := filepath.Join(t.TempDir(), name)
		if err := os.Rename(borgDir(t, 1), source); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s := startServer(t, t.TempDir(), "-d", source, "--adopt")
			s.expect(t, http.StatusOK, "GET", "/config/manifest", "")
			s.stop(t, syscall.SIGTERM)
		}
		if err := os.RemoveAll(source + ".packhouse"); err != nil {
			t.Fatal(err)
		}
		interruptAdoption(t, source, filepath.Dir(source), "other") // which is nobody's
		for range 2 {
			s := startRest(t, source, "--adopt")
			s.expect(t, http.StatusOK, "GET", "/config/manifest", "")
			s.stop(t, syscall.SIGTERM)
		}
		if _, err := os.Stat(filepath.Join(source+".packhouse", "index.db")); err != nil {
			t.Error(err)
		}
	}
}

// TestStopWhileAdopting: a stop in between is none of the adoption's faults.
func TestStopWhileAdopting(t *testing.T) {
	source := borgDir(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped, err := takeIn(ctx, slog.New(slog.DiscardHandler), nil, adopt.Options{Source: source, Into: filepath.Dir(source), Name: "made"})
	if !stopped || err != nil {
		t.Errorf("got %v, %v", stopped, err)
	}
}

// TestAdoptsByLinks: a start copies nothing from another file system.
func TestAdoptsByLinks(t *testing.T) {
	source := borgDir(t, 1)
	if err := sameFileSystem(source, t.TempDir()); err != nil {
		t.Errorf("beside it: %v", err)
	}
	if err := sameFileSystem(source, "/proc"); err == nil || !strings.Contains(err.Error(), "by links only") {
		t.Errorf("got %v", err)
	}
}

// TestProgressLog: the log says each step, and the service manager that the start goes on.
func TestProgressLog(t *testing.T) {
	var out buffer
	var told []string
	show := progressLog(slog.New(slog.NewTextHandler(&out, nil)), func(state string) { told = append(told, state) })
	for _, p := range []adopt.Progress{{Step: "looking", Files: 1}, {Step: "looking", Files: 2}, {Step: "linking", Files: 3, FilesTotal: 9, Bytes: 10, BytesTotal: 20}} {
		show(p)
	}
	if n := strings.Count(out.String(), "adopting: "); n != 2 || !strings.Contains(out.String(), "files=3 total_files=9 bytes=10 total_bytes=20") {
		t.Errorf("got %s", out.String())
	}
	if len(told) != 2 || told[1] != "STATUS=adopting: linking, 3 of 9 files\nEXTEND_TIMEOUT_USEC=60000000" {
		t.Errorf("told %q", told)
	}
}

// TestHintOfBeside: who may not make the directory beside the other server's is told how it is made.
func TestHintOfBeside(t *testing.T) {
	place := placement{data: "/var/lib/vykar.packhouse", sources: []source{{"/var/lib/vykar", "vykar"}}}
	refused := &fs.PathError{Op: "mkdir", Path: place.data, Err: syscall.EACCES}
	if err := hintOfBeside(refused, place); !strings.Contains(err.Error(), "install -d -m 700 -o USER /var/lib/vykar.packhouse") {
		t.Errorf("got %v", err)
	}
	if err := hintOfBeside(refused, placement{}); err != error(refused) {
		t.Errorf("without --adopt: got %v", err)
	}
}

// resticDir makes a directory as rest-server leaves it.
func resticDir(t *testing.T, dir string) {
	t.Helper()
	for _, kind := range []string{"data", "index", "keys", "locks", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(dir, kind), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte("config"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPlaceBesideRestServer: of the directory of rest-server each repository is taken, also those whose names have two parts; one with others in it is
// refused rather than taken without them.
func TestPlaceBesideRestServer(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "restic")
	for _, name := range []string{"alice", "alice/laptop", "bob/mein büro"} {
		resticDir(t, filepath.Join(dir, name))
	}
	p, err := placeBeside(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, source := range p.sources {
		if names = append(names, source.name); source.dir != filepath.Join(dir, source.name) {
			t.Errorf("%s is made of %s", source.name, source.dir)
		}
	}
	if want := []string{"alice", "alice/laptop", "bob/mein büro"}; !slices.Equal(names, want) || p.root != "" {
		t.Errorf("got %q, with %q at the root, want %q", names, p.root, want)
	}
	resticDir(t, dir)
	if _, err := placeBeside(dir, ""); err == nil || !strings.Contains(err.Error(), "alice/laptop in it") {
		t.Errorf("one in the other: got %v", err)
	}
	resticDir(t, filepath.Join(dir, "carol", "a$b"))
	if _, err := placeBeside(dir, ""); err == nil || !strings.Contains(err.Error(), "carol/a$b") {
		t.Errorf("a name that cannot be: got %v", err)
	}
}
