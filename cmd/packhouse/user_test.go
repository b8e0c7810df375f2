package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"
)

// runWithInput is runHere with something on standard input.
func runWithInput(t testing.TB, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e buffer
	code = run(t.Context(), append([]string{"packhouse"}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

// TestUserCommands: users of the password file are added, changed and removed while the server runs, which notices; what else is in the file
// stays, and so do its mode and owner.
func TestUserCommands(t *testing.T) {
	dir := tempDir(t)
	file, passwords := filepath.Join(dir, "f.toml"), filepath.Join(dir, "users")
	write(t, file, "[server]\ntoken = 't'\nhtpasswd_file = '"+passwords+"'\ndata_dir = '"+filepath.Join(dir, "d")+"'\n[[user]]\nname = 'bob'\npassword_hash = '"+hashOf(t, "b")+"'\nrole = 'read'\nrepositories = ['laptop']\n")
	write(t, passwords, "# of the administrator\nfirst:"+hashOf(t, "f")+":extra\nold:$apr1$x$y\nlast:"+hashOf(t, "l")) // without a line end
	if err := os.Chmod(passwords, 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(passwords, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, dir, "-c", file)
	call := func(code int, want, in string, args ...string) string {
		t.Helper()
		got, out, errs := runWithInput(t, in, append([]string{"user"}, args...)...)
		if got != code || !strings.Contains(out+errs, want) {
			t.Errorf("%q: got %d, %s%s, want %d with %q", args, got, out, errs, code, want)
		}
		return out
	}
	call(0, "added alice", "one\nmore\n", "add", "alice", "-c", file)
	await(t, "user alice", func() bool {
		status, _ := s.as(t, "alice", "one", http.MethodGet, "/laptop?cmd=quota", "")
		return status != http.StatusUnauthorized
	}, s.errs)
	call(0, "changed the password of alice", "two", "passwd", "alice", "-c", file)
	await(t, "new password", func() bool {
		status, _ := s.as(t, "alice", "two", http.MethodGet, "/laptop?cmd=quota", "")
		return status != http.StatusUnauthorized
	}, s.errs)
	call(0, "changed the password of old", "three\r\n", "passwd", "old", "-f", passwords)
	list := call(0, "alice\tfile\t-\tall\t-\n", "", "list", "-c", file)
	if !strings.Contains(list, "bob\tconfiguration\tread\tlaptop\t-\n") || strings.Contains(list, "$2a$") {
		t.Errorf("list: got %s", list)
	}
	call(0, `"source": "configuration"`, "", "list", "-c", file, "--json")

	text, err := os.ReadFile(passwords)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 6 || lines[0] != "# of the administrator" || !strings.HasSuffix(lines[1], ":extra") || !strings.HasPrefix(lines[2], "old:$2") ||
		!strings.HasPrefix(lines[3], "last:") || !strings.HasPrefix(lines[4], "alice:$2") || lines[5] != "" {
		t.Errorf("the file is %s", text)
	}
	if cost, err := bcrypt.Cost([]byte(strings.TrimPrefix(lines[4], "alice:"))); err != nil || cost < bcrypt.DefaultCost {
		t.Errorf("the hash: got cost %d, %v", cost, err)
	}
	got := strings.TrimSpace(statOf(t, passwords))
	if want := map[bool]string{true: "640 12 34", false: fmt.Sprintf("640 %d %d", os.Geteuid(), os.Getegid())}[os.Geteuid() == 0]; got != want {
		t.Errorf("mode and owner of the file: got %s, want %s", got, want)
	}

	call(1, "has a user alice already", "x", "add", "alice", "-c", file)
	call(1, "has no user carol", "x", "passwd", "carol", "-c", file)
	call(1, "has no user carol", "", "remove", "carol", "-c", file)
	call(1, "the password is empty", "\n", "add", "carol", "-c", file)
	call(1, "longer than 72 bytes", strings.Repeat("x", 73), "add", "carol", "-c", file)
	call(1, "the configuration has a user of this name", "x", "add", "bob", "-c", file)
	call(1, "reserved for the server's token", "x", "add", "token", "-c", file)
	call(2, "cannot be a user's name", "x", "add", "a:b", "-c", file)
	call(2, "set htpasswd_file", "x", "add", "carol")
	call(0, "removed alice", "", "remove", "alice", "-c", file)
	if after, err := os.ReadFile(passwords); err != nil || strings.Contains(string(after), "alice") || len(after) == 0 {
		t.Errorf("after the removal: got %s, %v", after, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("got %v, %v, want the configuration, the file and the data", entries, err)
	}
}

func statOf(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%o %d %d", info.Mode().Perm(), owner.Uid, owner.Gid)
}

// TestNewPasswordFile: a password file that root makes can be read by the server, whose group the configuration has.
func TestNewPasswordFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to give files to others needs root")
	}
	dir := tempDir(t)
	file, passwords, other := filepath.Join(dir, "f.toml"), filepath.Join(dir, "users"), filepath.Join(dir, "others")
	write(t, file, "[server]\nhtpasswd_file = '"+passwords+"'\n")
	if err := errors.Join(os.Chown(file, 0, 34), os.Chmod(file, 0o640)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		path string
		mode os.FileMode
		gid  uint32
		note bool
	}{
		{[]string{"-c", file}, passwords, 0o640, 34, false},
		{[]string{"-f", other}, other, 0o600, 0, true},
	} {
		code, out, errs := runWithInput(t, "x", append([]string{"user", "add", "alice"}, test.args...)...)
		if code != 0 || strings.Contains(errs, "only root can read it") != test.note {
			t.Errorf("%q: got %d, %s%s", test.args, code, out, errs)
		}
		info, err := os.Stat(test.path)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != test.mode || owner.Gid != test.gid && test.mode == 0o640 {
			t.Errorf("%q: got mode %o and group %d, want %o and %d", test.args, info.Mode().Perm(), owner.Gid, test.mode, test.gid)
		}
	}
}

// TestHiddenPassword: what ends a command that asks for a password on a terminal leaves the terminal as it was.
func TestHiddenPassword(t *testing.T) {
	dir := tempDir(t)
	keyboard, terminal := pseudoTerminal(t)
	cmd := program(t, dir, "packhouse", "user", "add", "alice", "-f", "users")
	var errs buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &errs, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	shows := func() bool {
		state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return state.Lflag&unix.ECHO != 0
	}
	await(t, "hidden password", func() bool { return !shows() }, &errs)
	if _, err := keyboard.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
		t.Errorf("got %v, want the end by SIGINT: %s", cmd.ProcessState, errs.String())
	}
	if !shows() {
		t.Error("the terminal shows nothing any more")
	}
}

// pseudoTerminal makes a terminal, and the other end of it.
func pseudoTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return keyboard, terminal
}

// TestOfAnotherUser: who may not read the files of the server is told who may.
func TestOfAnotherUser(t *testing.T) {
	dir := tempDir(t)
	if os.Geteuid() != 0 {
		t.Skip("to be another user needs root")
	}
	for _, name := range []string{"data", "packhouse.toml"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"repo", "list", "-d", filepath.Join(dir, "data")}, {"health", "-d", filepath.Join(dir, "data")},
		{"repo", "list", "-c", filepath.Join(dir, "packhouse.toml", "x")}, {"user", "list", "-f", filepath.Join(dir, "data", "x")},
		{"user", "list", "-c", filepath.Join(dir, "packhouse.toml", "x")}, {"config", "check", filepath.Join(dir, "packhouse.toml", "x")},
	} {
		cmd := program(t, "/", append([]string{"packhouse"}, args...)...)
		self, err := os.Open(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{self} // the directory that it lies in is ours alone
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		_ = self.Close()
		if want := "permission denied; run this as the user of the server, as in sudo -u packhouse packhouse\n"; err == nil || !strings.HasSuffix(string(out), want) {
			t.Errorf("%q: got %v, %s, want %q", args, err, out, want)
		}
	}
}

// TestUserListOfNothing: without a file and a configuration there is nothing to list, which is not the same as no users.
func TestUserListOfNothing(t *testing.T) {
	t.Setenv(configVariable, "")
	if code, out, errs := runHere(t, "user", "list"); code != 2 || !strings.Contains(errs, "-c or -f") {
		t.Errorf("got %d, %s%s, want 2 and what is missing", code, out, errs)
	}
}

// TestUsersAtOnce: of several commands that change one file at once, each finds what the others have done; a new file is for its owner alone.
func TestUsersAtOnce(t *testing.T) {
	passwords := filepath.Join(tempDir(t), "users")
	const users = 8
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() {
			if code, _, errs := runWithInput(t, "secret\n", "user", "add", fmt.Sprint("user", i), "-f", passwords); code != 0 {
				t.Errorf("user %d: got %d, %s", i, code, errs)
			}
		})
	}
	group.Wait()
	_, out, errs := runHere(t, "user", "list", "-f", passwords)
	if n := strings.Count(out, "\n"); n != users {
		t.Errorf("got %d users, want %d: %s%s", n, users, out, errs)
	}
	if info, err := os.Stat(passwords); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: got %v, %v, want mode 0600", info, err)
	}
}
