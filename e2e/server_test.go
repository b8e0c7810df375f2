//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const token = "0123456789abcdef0123456789abcdef"

// server is one packhouse process that listens on TCP. It may be stopped or killed, and started again on
// the same address and data.
type server struct {
	t       testing.TB
	program string   // path of the program
	args    []string // command line after the program's name
	env     []string // added to the environment

	dir     string // holds data and log
	data    string // data directory
	addr    string // host:port
	scheme  string // http or https
	logPath string

	cmd     *exec.Cmd
	done    chan struct{} // closed when the process ended
	exit    error         // of the process; read after done
	crashed bool          // killed on purpose
	harmed  bool          // files were taken away or changed on purpose: it may say so

	expectErrors string // errors that the log may have, a regular expression; "": none
}

// startServer runs `packhouse serve` with JSON logs, a fixed token and the arguments; it is stopped when the
// test ends, and then must have exited with 0 and logged no error.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := newServer(t)
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(t, tokenFile, token+"\n", 0o600)
	s.args = append([]string{"serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile,
		"--log-format", "json"}, args...)
	s.start()
	return s
}

// newServer prepares a server without starting it.
func newServer(t testing.TB) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{
		t: t, program: packhouse(), dir: dir, data: filepath.Join(dir, "data"),
		addr: freeAddress(t), scheme: "http", logPath: filepath.Join(dir, "server.log"),
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop()
		}
		s.checkLog()
		if t.Failed() {
			t.Logf("end of the server's log:\n%s", tail(s.logPath, 40))
		}
	})
	return s
}

// ports numbers the addresses given out by this process.
var ports atomic.Uint32

// freeAddress is a loopback address where nobody listened a moment ago, and where nobody will by chance: the system
// gives connections and other tests' listeners ports from its ephemeral range, and this one is below. So a
// server can be started again on its address although other tests run meanwhile.
func freeAddress(t testing.TB) string {
	t.Helper()
	lowest := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(text), &lowest)
	}
	const first = 10_000
	if lowest < first+1000 {
		lowest = 32768
	}
	for range 1000 {
		n := int(ports.Add(1)) + os.Getpid()*97
		addr := fmt.Sprintf("127.0.0.1:%d", first+n%(lowest-first))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port below the ephemeral range")
	return ""
}

// start runs the process and returns when it accepts connections.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	s.await()
}

// launch runs the process.
func (s *server) launch(files ...*os.File) {
	s.t.Helper()
	log, err := os.OpenFile(s.logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.ExtraFiles = files
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.crashed = false
	done := make(chan struct{})
	s.done = done
	cmd := s.cmd
	go func() {
		s.exit = cmd.Wait()
		close(done)
	}()
}

// await returns when the process accepts connections.
func (s *server) await() {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-s.done:
			s.cmd = nil
			s.t.Fatalf("the server ended at once: %v\n%s", s.exit, tail(s.logPath, 20))
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not listen on %s after a minute: %v", s.addr, err)
		}
	}
}

// stop ends the process as an administrator does, and demands that it exits with 0.
func (s *server) stop() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		if s.exit != nil && !s.crashed {
			s.t.Errorf("the server ended with %v after SIGTERM, want exit code 0", s.exit)
		}
	case <-time.After(time.Minute):
		s.t.Errorf("the server still runs a minute after SIGTERM")
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// kill ends the process as a crash does.
func (s *server) kill() {
	s.t.Helper()
	s.crashed = true
	_ = s.cmd.Process.Kill()
	<-s.done
	s.cmd = nil
}

// peakMemory is the most resident memory the process ever had, in bytes.
func (s *server) peakMemory() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	s.t.Fatal("no VmHWM in the status of the process")
	return 0
}

// url is the address of a repository as a client writes it, with the credentials.
func (s *server) url(repository string) string {
	return fmt.Sprintf("%s://packhouse:%s@%s/%s", s.scheme, token, s.addr, repository)
}

// entry is one line of the request log.
type entry struct {
	Level, Msg, Operation, Method, Key, Repository, Principal, Reason string
	Status                                                            int
	raw                                                               string
}

// entries reads the log so far; lines that are not JSON are left out.
func (s *server) entries() []entry {
	s.t.Helper()
	f, err := os.Open(s.logPath)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		s.t.Fatal(err)
	}
	defer f.Close()
	var entries []entry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			e.raw = lines.Text()
			entries = append(entries, e)
		}
	}
	return entries
}

// requests are the log entries of requests.
func (s *server) requests() []entry {
	var requests []entry
	for _, e := range s.entries() {
		if e.Msg == "request" {
			requests = append(requests, e)
		}
	}
	return requests
}

// checkLog demands that nothing went wrong inside the server, and that it never wrote the token down.
func (s *server) checkLog() {
	s.t.Helper()
	for _, e := range s.entries() {
		if s.harmed && (strings.Contains(e.Msg, "missing") || strings.Contains(e.Msg, "damaged")) {
			continue
		}
		if expected := s.expectErrors != "" && regexp.MustCompile(s.expectErrors).MatchString(e.raw); e.Level == "ERROR" && !expected || e.Msg == "panic" {
			s.t.Errorf("the server logged an error: %s", e.raw)
		}
	}
	log, _ := os.ReadFile(s.logPath)
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("DATA RACE")) {
			s.t.Errorf("the race detector found something in the server")
		}
		if bytes.HasPrefix(line, []byte("{")) && bytes.Contains(line, []byte(token)) {
			s.t.Errorf("the server logged its token: %s", line)
		}
	}
}

// run starts a command, and demands that it succeeds. It returns what the command printed.
func run(t testing.TB, env []string, program string, args ...string) string {
	t.Helper()
	out, code := try(t, env, program, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d, want 0\n%s", filepath.Base(program), strings.Join(args, " "), code, lastLines(out, 60))
	}
	return out
}

// commandTimeout is when a client that hangs is given up.
const commandTimeout = 10 * time.Minute

// try runs a command and returns what it printed, and its exit code.
func try(t testing.TB, env []string, program string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = t.TempDir()
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(out), 0
	case ctx.Err() != nil:
		t.Errorf("%s %s: still running after %v", filepath.Base(program), strings.Join(args, " "), commandTimeout)
		return string(out), -1
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	default:
		t.Errorf("%s: %v", program, err)
		return string(out), -1
	}
}

func writeFile(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), n)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// health asks the server's health.
func (s *server) health(client *http.Client) (map[string]any, error) {
	response, err := client.Get(s.scheme + "://" + s.addr + "/health")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("health answers %s", response.Status)
	}
	var health map[string]any
	return health, json.NewDecoder(response.Body).Decode(&health)
}
