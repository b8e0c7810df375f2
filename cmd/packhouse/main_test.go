package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary behave as packhouse: for tests of signals, of holders and of what
// survives a kill.
const asProgram = "PACKHOUSE_TEST_AS_PROGRAM"

// raceOptions are for a program of these tests that was built with the race detector: by default, it stays for a second when it ends.
const raceOptions = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program prepares packhouse with args as a process of its own, called by the name in args[0].
func program(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = args
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), asProgram+"=1", raceOptions)
	return cmd
}

// cleanEnv is the environment without what configures packhouse.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "PACKHOUSE_TOKEN", "VYKAR_TOKEN", "VGER_TOKEN", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "JOURNAL_STREAM",
			"SSH_ORIGINAL_COMMAND", "BORG_REPO_PERMISSIONS", idleVariable, configVariable, serverVariable:
		default:
			env = append(env, v)
		}
	}
	return env
}

// buffer is an output that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits until the output matches pattern, and returns the submatches.
func (b *buffer) await(t testing.TB, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var m []string
	await(t, "output "+pattern, func() bool {
		m = re.FindStringSubmatch(b.String())
		return m != nil
	}, b)
	return m
}

// await waits until done is true; it fails the test when that takes implausibly long.
func await(t testing.TB, what string, done func() bool, logs ...*buffer) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			text := ""
			for _, l := range logs {
				text += "\n" + l.String()
			}
			t.Fatalf("no %s%s", what, text)
		}
	}
}

// running is a server in a process of its own.
type running struct {
	*exec.Cmd
	out, errs *buffer
	url       string
	token     string
	exited    chan struct{}
}

// startServer runs `packhouse serve` in dir, on a port the system chooses, until the test ends.
func startServer(t testing.TB, dir string, args ...string) *running {
	t.Helper()
	r := launch(t, program(t, dir, append([]string{"packhouse", "serve", "--listen", "127.0.0.1:0"}, args...)...))
	r.url = r.out.await(t, `serves .* at (https?://\S+)`)[1]
	if m := regexp.MustCompile(`token   ([0-9a-f]{64})`).FindStringSubmatch(r.out.String()); m != nil {
		r.token = m[1]
	}
	return r
}

// launch starts a process that is stopped when the test ends.
func launch(t testing.TB, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{Cmd: cmd, out: &buffer{}, errs: &buffer{}, exited: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stderr = r.errs
	}
	if cmd.Stdout == nil {
		cmd.Stdout = r.out
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(r.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-r.exited
	})
	return r
}

// stop asks the process to end and returns its exit code.
func (r *running) stop(t testing.TB, s syscall.Signal) int {
	t.Helper()
	if err := r.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return r.code(t)
}

// code waits for the end of the process.
func (r *running) code(t testing.TB) int {
	t.Helper()
	select {
	case <-r.exited:
	case <-time.After(60 * time.Second):
		t.Fatalf("the process does not end\n%s", r.errs)
	}
	return r.ProcessState.ExitCode()
}

const acceptBorgStore = "application/vnd.x.borgstore.rest.v1"

// do sends a BorgStore request with the server's token and returns status and body.
func (r *running) do(t testing.TB, method, path, body string) (int, string) {
	t.Helper()
	return request(t, http.DefaultClient, r.token, method, r.url+path, body)
}

func request(t testing.TB, client *http.Client, token, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", acceptBorgStore)
	if token != "" {
		req.SetBasicAuth("packhouse", token)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// expect fails unless a request is answered with status.
func (r *running) expect(t testing.TB, status int, method, path, body string) string {
	t.Helper()
	got, text := r.do(t, method, path, body)
	if got != status {
		t.Fatalf("%s %s: got %d %q, want %d\n%s", method, path, got, text, status, r.errs)
	}
	return text
}

// runHere carries out a command in this process.
func runHere(t testing.TB, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e buffer
	code = run(t.Context(), append([]string{"packhouse"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// stdioClient speaks the BorgStore protocol to a stdio process.
type stdioClient struct {
	*running
	in  io.WriteCloser
	out *bufio.Reader
}

// startStdio runs a stdio process; args[0] is the name it is called by.
func startStdio(t testing.TB, dir string, env []string, args ...string) *stdioClient {
	t.Helper()
	return startStdioOf(t, "", dir, env, args...)
}

// startStdioOf is startStdio of a copy of this program; "": of this one.
func startStdioOf(t testing.TB, copied, dir string, env []string, args ...string) *stdioClient {
	t.Helper()
	cmd := program(t, dir, args...)
	if copied != "" {
		cmd.Path = copied
	}
	cmd.Env = append(cmd.Env, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	r := launch(t, cmd)
	_ = write.Close()
	t.Cleanup(func() { _ = read.Close() })
	return &stdioClient{running: r, in: in, out: bufio.NewReader(read)}
}

func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
