package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/repotest"
)

func TestNewRefuses(t *testing.T) {
	_, err := api.New(api.Options{})
	for _, want := range []string{"set of repositories", "dialect", "authentication"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about the %s", err, want)
		}
	}
}

// Health is for everyone, below every prefix, and names nothing.
func TestHealth(t *testing.T) {
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Secret: "s"}}}), Version: "1.2.3"})
	if _, err := f.Set.Create(t.Context(), "private-name", "plain"); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/health", "/private-name/health", "/missing/health", "/health?x"} {
		response, body := get(t, f.Addr, "GET", target)
		if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s", target, response.StatusCode, body)
		}
		var h struct {
			Status          string
			Version         string
			UptimeSeconds   *int64   `json:"uptime_seconds"`
			DiskFreeBytes   int64    `json:"disk_free_bytes"`
			DiskFreeInodes  *int64   `json:"disk_free_inodes"`
			Repos           int      `json:"repos"`
			ProtocolVersion int      `json:"protocol_version"`
			Hashes          []string `json:"hashes"`
		}
		if err := json.Unmarshal([]byte(body), &h); err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if h.Status != "ok" || h.Version != "1.2.3" || h.UptimeSeconds == nil || h.DiskFreeBytes <= 0 || h.Repos != 1 ||
			h.ProtocolVersion != 2 || strings.Join(h.Hashes, " ") != "blake2b blake3" {
			t.Errorf("%s: got %s", target, body)
		}
		if _, total, err := f.Set.Inodes(); err == nil && (total > 0) != (h.DiskFreeInodes != nil && *h.DiskFreeInodes > 0) {
			t.Errorf("%s: inodes: got %s", target, body)
		}
		if strings.Contains(body, "private-name") || strings.Contains(body, f.Dir) {
			t.Errorf("%s names what is private: %s", target, body)
		}
	}
	response, body := get(t, f.Addr, "HEAD", "/health")
	if response.StatusCode != 200 || body != "" || response.ContentLength <= 0 {
		t.Errorf("HEAD: got %d, length %d, %q", response.StatusCode, response.ContentLength, body)
	}
	if response, _ := get(t, f.Addr, "POST", "/health"); response.StatusCode != 401 {
		t.Errorf("POST: got %d, want 401", response.StatusCode)
	}
}

// Health says for what clients are refused, and what would help. A quota that is reached is no fault of the server.
func TestHealthNamesWhatIsShort(t *testing.T) {
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Secret: "s"}}})})
	r, err := f.Set.Create(t.Context(), "private-name", "plain")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	refused := func(want string) {
		t.Helper()
		_, err := a.Put(t.Context(), repo.PutRequest{Key: "x", Body: strings.NewReader("123456"), Size: 6})
		if err == nil {
			t.Fatal("it was stored")
		}
		if _, body := get(t, f.Addr, "GET", "/health"); !strings.Contains(body, want) || strings.Contains(body, "private") {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	r.Configure(repo.Settings{Quota: 5})
	refused(`"short":["quota"],"reason":"a repository is short of quota: prune and compact`)
	if _, body := get(t, f.Addr, "GET", "/health"); !strings.Contains(body, `"status":"ok"`) {
		t.Errorf("got %s, want ok", body)
	}
	r.Configure(repo.Settings{Quota: -1, Reserve: 1 << 60})
	refused(`"status":"degraded"`)
	refused(`"short":["quota","disk"]`)
}

// TestAdoptionShows: repositories that are being adopted are counted, for whoever watches.
func TestAdoptionShows(t *testing.T) {
	clock := time.Now()
	set := datadir.Open(datadir.Options{Dir: t.TempDir()})
	t.Cleanup(func() { set.Close() })
	if _, err := set.Create(t.Context(), "ours", "plain"); err != nil {
		t.Fatal(err)
	}
	f := startEcho(t, api.Options{Set: set, OpenMetrics: true, Now: func() time.Time { return clock }})
	want := func(repos, adopting int) {
		t.Helper()
		clock = clock.Add(time.Minute) // the count is kept for a while
		if _, body := get(t, f.Addr, "GET", "/health"); !strings.Contains(body, `"status":"ok"`) || !strings.Contains(body, fmt.Sprintf(`"repos":%d,"adopting_repos":%d,`, repos, adopting)) {
			t.Errorf("health: got %s, want %d repositories of which %d are being adopted", body, repos, adopting)
		}
		if _, body := get(t, f.Addr, "GET", "/metrics"); !strings.Contains(body, fmt.Sprintf("packhouse_repositories_adopting %d\n", adopting)) {
			t.Errorf("metrics: got %s, want %d that are being adopted", body, adopting)
		}
	}
	want(1, 0)
	if err := set.BeginAdoption("theirs", "/somewhere"); err != nil {
		t.Fatal(err)
	}
	want(2, 1)
}

// A repository that cannot be opened is seen by whoever watches, without its name where anyone may look.
func TestUnusableRepository(t *testing.T) {
	dir := t.TempDir()
	set := datadir.Open(datadir.Options{Dir: dir})
	for _, name := range []string{"good", "broken"} {
		if _, err := set.Create(t.Context(), name, "plain"); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(dir, "broken", "index.db")
	whole, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(index, []byte(strings.Repeat("damage", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	set = datadir.Open(datadir.Options{Dir: dir})
	t.Cleanup(func() { set.Close() })
	f := startEcho(t, api.Options{Set: set, OpenMetrics: true})
	ask := func() {
		for _, name := range []string{"good", "broken", "missing"} {
			_, _ = set.Get(t.Context(), name)
		}
	}
	expect := func(status, count string, metrics ...string) {
		t.Helper()
		_, body := get(t, f.Addr, "GET", "/health")
		for _, want := range []string{`"status":"` + status + `"`, `"unusable_repos":` + count, `"read_only_repos":0`} {
			if !strings.Contains(body, want) {
				t.Errorf("health: got %s, want %s", body, want)
			}
		}
		if (status == "ok") == strings.Contains(body, "reason") || strings.Contains(body, "broken") || strings.Contains(body, dir) {
			t.Errorf("health: got %s, want a reason without names", body)
		}
		response, body := get(t, f.Addr, "GET", "/metrics")
		if response.StatusCode != 200 {
			t.Errorf("metrics: got %d %s", response.StatusCode, body)
		}
		for _, want := range append(metrics, "packhouse_disk_free_bytes ", "packhouse_disk_size_bytes ") {
			if !strings.Contains(body, want) {
				t.Errorf("metrics have no %s", want)
			}
		}
		if strings.Contains(body, `repository="missing"`) {
			t.Error("metrics have a repository that is not there")
		}
	}
	ask()
	expect("degraded", "1", `packhouse_repository_usable{repository="broken"} 0`, `packhouse_repository_usable{repository="good"} 1`)
	if err := os.WriteFile(index, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	ask()
	expect("ok", "0", `packhouse_repository_usable{repository="broken"} 1`)
}

// TestMissingRepository: one that is missing is seen by whoever watches, without its name, until it is forgotten.
func TestMissingRepository(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, layout.OwnDir), 0o700); err != nil { // as a server has it
		t.Fatal(err)
	}
	set := datadir.Open(datadir.Options{Dir: dir})
	t.Cleanup(func() { set.Close() })
	for _, name := range []string{"stays", "goes"} {
		if _, err := set.Create(t.Context(), name, "plain"); err != nil {
			t.Fatal(err)
		}
	}
	clock := repotest.FixedClock(time.Now())
	f := startEcho(t, api.Options{Set: set, OpenMetrics: true, Now: clock.Now})
	expect := func(status string, there, missing int) {
		t.Helper()
		clock.Advance(time.Minute) // the numbers are kept for some seconds
		_, body := get(t, f.Addr, "GET", "/health")
		for _, want := range []string{`"status":"` + status + `"`, fmt.Sprintf(`"repos":%d,"adopting_repos":0,"missing_repos":%d,`, there, missing)} {
			if !strings.Contains(body, want) || strings.Contains(body, "goes") || (status == "ok") == strings.Contains(body, "reason") {
				t.Errorf("health: got %s, want %s", body, want)
			}
		}
		if _, body := get(t, f.Addr, "GET", "/metrics"); !strings.Contains(body, fmt.Sprintf("packhouse_repositories_missing %d\n", missing)) {
			t.Errorf("metrics: got %s, want %d that are missing", body, missing)
		}
	}
	expect("ok", 2, 0)
	if err := os.RemoveAll(filepath.Join(dir, "goes")); err != nil {
		t.Fatal(err)
	}
	expect("degraded", 1, 1)
	if _, err := set.Get(t.Context(), "goes"); !errors.Is(err, repo.ErrVanished) {
		t.Fatalf("got %v", err)
	}
	expect("degraded", 1, 1)
	if err := set.Forget("goes"); err != nil {
		t.Fatal(err)
	}
	expect("ok", 1, 0)
}

func TestMetricsAndLog(t *testing.T) {
	secret := strings.Repeat("k", 40)
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "backup", Secret: secret}}}), Version: "1.2.3"})
	if _, err := f.Set.Create(t.Context(), "r", "plain"); err != nil {
		t.Fatal(err)
	}
	bearer := "Bearer " + secret
	get(t, f.Addr, "GET", "/r/a%20b?token="+secret, "Authorization", bearer)
	get(t, f.Addr, "GET", "/r/x")
	if response, _ := get(t, f.Addr, "GET", "/metrics"); response.StatusCode != 401 {
		t.Errorf("metrics without credentials: got %d, want 401", response.StatusCode)
	}
	response, body := get(t, f.Addr, "GET", "/metrics", "Authorization", bearer)
	if response.StatusCode != 200 {
		t.Fatalf("metrics: got %d", response.StatusCode)
	}
	for _, want := range []string{
		`packhouse_requests_total{dialect="plain",operation="echo",status="200"} 1`,
		`packhouse_requests_total{dialect="plain",operation="none",status="401"} 1`,
		`packhouse_request_seconds_count{dialect="plain",operation="echo"} 1`,
		`packhouse_requests_running 1`,
		`packhouse_repository_items{repository="r"} 0`,
		`packhouse_repository_read_only{repository="r"} 0`,
		`packhouse_repository_quota_bytes{repository="r"} -1`,
		`version="1.2.3"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	log := f.Logged(t)
	for _, want := range []string{
		"principal=backup", "repository=r", "dialect=plain", "operation=echo", "key=/a%20b", "status=200", "remote=127.0.0.1",
		`reason="no credentials"`, "status=401",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, secret) {
		t.Errorf("the log has the token:\n%s", log)
	}
	get(t, f.Addr, "GET", "/"+strings.Repeat("n", 20_000))
	if n := len(f.Logged(t)) - len(log); n > 3<<10 {
		t.Errorf("a stranger's long path takes %d bytes of log", n)
	}
	if n := strings.Count(log, "msg=request "); n != 4 {
		t.Errorf("got %d lines for 4 requests:\n%s", n, log)
	}
}

// serving makes a fixture whose one dialect does what serve says.
func serving(t testing.TB, o api.Options, serve func(w http.ResponseWriter, r *http.Request, t api.Target) bool) *apitest.Fixture {
	t.Helper()
	o.Dialects = []api.Dialect{echo{name: "plain", serve: serve}}
	return startEcho(t, o)
}

// readAnswer reads one response of a raw connection.
func readAnswer(t testing.TB, conn net.Conn) (*http.Response, error) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return http.ReadResponse(bufio.NewReader(conn), nil)
}

// pipes is a listener within the process: its connections have deadlines, but run on the clock of a
// synctest bubble.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// inBubble runs a server on pipes; dial opens a connection to it.
func inBubble(t *testing.T, limits api.Limits, serve func(w http.ResponseWriter, r *http.Request, t api.Target) bool,
	test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	inBubbleFor(t, api.AuthOptions{NoAuth: true}, limits, serve, test)
}

// stream makes a pipe look like a TCP connection, as far as the server looks.
type stream struct{ net.Conn }

func (s stream) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{s.Conn}, src)
}

func (s stream) CloseWrite() error { return s.Close() }

// inBubbleFor is inBubble for clients that must authenticate. It runs test twice: the server treats TCP connections and others
// differently.
func inBubbleFor(t *testing.T, auth api.AuthOptions, limits api.Limits, serve func(w http.ResponseWriter, r *http.Request, t api.Target) bool,
	test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	for name, as := range map[string]func(net.Conn) net.Conn{
		"tcp":   func(c net.Conn) net.Conn { return stream{c} },
		"other": func(c net.Conn) net.Conn { return c },
	} {
		t.Run(name, func(t *testing.T) { runBubble(t, auth, limits, serve, as, test) })
	}
}

func runBubble(t *testing.T, auth api.AuthOptions, limits api.Limits, serve func(w http.ResponseWriter, r *http.Request, t api.Target) bool,
	as func(net.Conn) net.Conn, test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		server, err := api.New(api.Options{
			Set: datadir.Open(datadir.Options{Dir: dir}), Auth: newAuth(t, auth), Limits: limits,
			Dialects: []api.Dialect{echo{name: "plain", serve: serve}},
		})
		if err != nil {
			t.Fatal(err)
		}
		l := pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(api.Listener{Listener: l}) }()
		test(t, func() net.Conn {
			client, conn := net.Pipe()
			l.accepted <- as(conn)
			return client
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: got %v", err)
		}
	})
}

// An upload may take as long as it likes while it moves, and is ended when it stands still.
func TestStall(t *testing.T) {
	got := make(chan error, 1)
	stall := 5 * time.Minute
	serve := func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
		if err == nil {
			// What comes after the body is not under the body's deadline.
			select {
			case <-r.Context().Done():
				t.Error("the request was cancelled after its body had arrived")
			case <-time.After(3 * stall):
			}
		}
		return false
	}
	inBubble(t, api.Limits{Stall: stall, MinRate: -1}, serve, func(t *testing.T, dial func() net.Conn) {
		got = make(chan error, 1) // of this bubble
		conn := dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 120\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for range 120 { // eight hours in all
			time.Sleep(stall - time.Minute)
			if _, err := io.WriteString(conn, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-got; err != nil {
			t.Errorf("a slow body: %v", err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 200 {
			t.Errorf("a slow body: got %v, %v", response, err)
		}
		conn = dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nxxx"); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a body that stands still: got %v, want the deadline", err)
		}
		begin := time.Now()
		if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(begin) > 2*stall {
			t.Errorf("a body that stands still: the connection ends after %s, %v", time.Since(begin), err)
		}
	})
}

// A client that does not read what it asked for does not hold the server for ever; one that reads slowly is served.
func TestStalledReader(t *testing.T) {
	const size = 8 << 20
	ended := make(chan any, 1)
	serve := func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
		defer func() {
			fault := recover()
			ended <- fault
			if fault != nil {
				panic(fault)
			}
		}()
		if err := api.SendReader(w, r, 200, strings.NewReader(strings.Repeat("x", size)), size); err != nil {
			t.Error(err)
		}
		return true
	}
	inBubble(t, api.Limits{Stall: time.Minute, MinRate: -1}, serve, func(t *testing.T, dial func() net.Conn) {
		ended = make(chan any, 1)
		for _, reads := range []bool{true, false} {
			conn := dial()
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /r HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if !reads {
				if fault := <-ended; fault != http.ErrAbortHandler {
					t.Errorf("got %v, want the response to be cut", fault)
				}
				continue
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			var n int64
			for n < size {
				time.Sleep(10 * time.Second) // 20 min in all
				m, err := io.CopyN(io.Discard, response.Body, min(64<<10, size-n))
				if n += m; err != nil {
					t.Fatalf("a slow reader: %v after %d bytes", err, n)
				}
			}
			if fault := <-ended; fault != nil {
				t.Errorf("a slow reader: got %v", fault)
			}
		}
	})
}

// HTTP/1.0 knows no chunks, and net/http drops the header that says so: such a body must not pass for an empty one,
// nor for the next request.
func TestOldBodyWithoutLength(t *testing.T) {
	f := serving(t, api.Options{}, func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
		if r.Method == "PUT" && r.ContentLength != 3 || r.Method == "POST" && !api.LengthMissing(r) {
			t.Errorf("%s: a body of length %d reached the dialect", r.Method, r.ContentLength)
		}
		return false
	})
	const chunks = "3\r\nabc\r\n0\r\n\r\n"
	for raw, want := range map[string]int{
		"PUT /r HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:                            411,
		"PUT /r HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:  411,
		"POST /r HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks: 200,
		"GET /r HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /smuggled HTTP/1.0\r\n\r\n":           200,
		"PUT /r HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc":                                           200,
		"DELETE /r HTTP/1.0\r\n\r\n": 200,
	} {
		conn := f.Dial(t)
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if got := string(answer); err != nil || !strings.HasPrefix(got, "HTTP/1.0 "+itoa(want)+" ") || strings.Count(got, "\r\nDate: ") != 1 {
			t.Errorf("%q: got %q, %v, want one answer, %d, and the end", raw, got, err, want)
		}
	}
}

// A body that is announced longer than the server would read of it is refused at once.
func TestHopelessBody(t *testing.T) {
	f := startEcho(t, api.Options{Limits: api.Limits{DrainBytes: 1 << 20}})
	conn := f.Dial(t)
	if _, err := io.WriteString(conn, "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if response, err := readAnswer(t, conn); err != nil || response.StatusCode != 200 || !response.Close {
		t.Errorf("got %v, %v, want an answer and the end of the connection", response, err)
	}
}

// A client that asks and never takes the answer is cut off, also when the answer is headers alone or leave to
// send the body.
func TestStalledReaderOfHeaders(t *testing.T) {
	serve := func(_ http.ResponseWriter, r *http.Request, _ api.Target) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		return false
	}
	for name, raw := range map[string]string{
		"headers":  "HEAD /r HTTP/1.1\r\nHost: x\r\n\r\n",
		"health":   "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n",
		"continue": "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, api.Limits{Stall: time.Minute}, serve, func(t *testing.T, dial func() net.Conn) {
				conn := dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, raw); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Minute)
				if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after three minutes: got %d bytes, %v, want the connection cut after one", n, err)
				}
			})
		})
	}
}

// Who does not finish the headers of a request is cut off.
func TestSlowHeaders(t *testing.T) {
	inBubble(t, api.Limits{}, nil, func(t *testing.T, dial func() net.Conn) {
		conn := dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /r HTTP/1.1\r\nHost: x\r\n"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("got %v, want the end", err)
		}
		if waited := time.Since(begun); waited > time.Minute {
			t.Errorf("cut off after %v", waited)
		}
	})
}

func TestHeaderLimits(t *testing.T) {
	f := startEcho(t, api.Options{})
	long := strings.Repeat("x", 80<<10)
	for name, raw := range map[string]string{
		"target": "GET /r/" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"header": "GET /r HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n\r\n",
	} {
		conn := f.Dial(t)
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		response, err := readAnswer(t, conn)
		if err != nil || response.StatusCode != 431 {
			t.Errorf("%s of 80 KiB: got %v, %v, want 431", name, response, err)
		}
	}
}

// Only so many requests are answered at once; more wait, and health is not among them.
func TestConcurrencyLimit(t *testing.T) {
	entered, release := make(chan bool, 10), make(chan bool)
	f := serving(t, api.Options{Limits: api.Limits{Requests: 4, Wait: 100 * time.Millisecond}, Admin: admin, Local: admin},
		func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
			entered <- true
			<-release
			return false
		})
	statuses := make(chan int, 10)
	ask := func() {
		response, err := http.Get("http://" + f.Addr + "/r")
		if err != nil {
			t.Error(err)
			statuses <- 0
			return
		}
		response.Body.Close()
		statuses <- response.StatusCode
	}
	go ask()
	go ask()
	<-entered
	<-entered
	if got := f.Server.Active(); got != 2 {
		t.Errorf("got %d requests active, want 2", got)
	}
	go ask()
	if got := <-statuses; got != 503 {
		t.Errorf("the third request: got %d, want 503", got)
	}
	if response, _ := get(t, f.Addr, "GET", "/health"); response.StatusCode != 200 {
		t.Errorf("health under load: got %d", response.StatusCode)
	}
	// Those of our own API are among them, what this machine's administrator asks is not.
	if response, _ := get(t, f.Addr, "GET", "/r/-/jobs"); response.StatusCode != 503 {
		t.Errorf("our own API under load: got %d, want 503", response.StatusCode)
	}
	if response, _ := get(t, f.Serve(t, f.Server, true), "GET", "/-/local/yield"); response.StatusCode != 200 {
		t.Errorf("a local command under load: got %d, want 200", response.StatusCode)
	}
	close(release)
	for range 2 {
		if got := <-statuses; got != 200 {
			t.Errorf("a request that had its slot: got %d, want 200", got)
		}
	}
}

// Connections beyond the limit wait for one that ends.
func TestConnectionLimit(t *testing.T) {
	f := startEcho(t, api.Options{Limits: api.Limits{Connections: 1}})
	first, second := f.Dial(t), f.Dial(t)
	const request = "GET /r HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, conn := range []net.Conn{first, second} {
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
	}
	if response, err := readAnswer(t, first); err != nil || response.StatusCode != 200 {
		t.Fatalf("first: got %v, %v", response, err)
	}
	first.Close()
	if response, err := readAnswer(t, second); err != nil || response.StatusCode != 200 {
		t.Errorf("second: got %v, %v", response, err)
	}
}

// Connections that wait for a request are closed for new ones; nobody can fill the server with them.
func TestIdleConnectionsGiveWay(t *testing.T) {
	f := startEcho(t, api.Options{Limits: api.Limits{Connections: 2}})
	ask := func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "GET /r HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		response, err := readAnswer(t, conn)
		if err == nil && response.StatusCode != 200 {
			err = errors.New(response.Status)
		}
		return err
	}
	var conns []net.Conn
	for i := range 5 {
		conns = append(conns, f.Dial(t))
		if err := ask(conns[i]); err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
	}
	open := 0
	for _, conn := range conns[:4] {
		if ask(conn) == nil {
			open++
		}
	}
	if err := ask(conns[4]); err != nil || open != 1 {
		t.Errorf("of 4 older connections %d are open, want 1; the newest: %v", open, err)
	}
}

// Requests under way finish when the server stops; when the time is over they are cut.
func TestShutdown(t *testing.T) {
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprintf("patient=%v", patient), func(t *testing.T) {
			entered, release := make(chan bool), make(chan bool)
			server, err := api.New(api.Options{
				Set: datadir.Open(datadir.Options{Dir: t.TempDir()}), Auth: newAuth(t, api.AuthOptions{NoAuth: true}),
				Dialects: []api.Dialect{echo{name: "plain", serve: func(http.ResponseWriter, *http.Request, api.Target) bool {
					entered <- true
					<-release
					return false
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			l, err := api.Listen(t.Context(), "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- server.Serve(api.Listener{Listener: l}) }()
			answered := make(chan error, 1)
			go func() {
				response, err := http.Get("http://" + l.Addr().String() + "/r")
				if err == nil {
					response.Body.Close()
				}
				answered <- err
			}()
			<-entered
			ctx, cancel := context.WithCancel(context.Background())
			stopped := make(chan error, 1)
			go func() { stopped <- server.Shutdown(ctx) }()
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve: got %v, want ErrServerClosed", err)
			}
			if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
				t.Errorf("the listener still accepts")
			}
			if patient {
				close(release)
			} else {
				cancel()
			}
			if err := <-stopped; (err == nil) != patient {
				t.Errorf("Shutdown: got %v", err)
			}
			if err := <-answered; (err == nil) != patient {
				t.Errorf("the request under way: got %v", err)
			}
			cancel()
			if !patient {
				close(release)
			}
			l2, err := api.Listen(t.Context(), "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Serve(api.Listener{Listener: l2}); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve after Shutdown: got %v, want ErrServerClosed", err)
			}
		})
	}
}

// A handler's fault is a 500 for its client and a line in the log, and no harm to others.
func TestPanic(t *testing.T) {
	f := serving(t, api.Options{}, func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
		if target.Path == "/late" {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(200)
			_, _ = w.Write([]byte("12345"))
		}
		panic("the fault of /srv/secret")
	})
	response, body := get(t, f.Addr, "GET", "/r/early")
	if response.StatusCode != 500 || body != api.InternalError {
		t.Errorf("early: got %d %q", response.StatusCode, body)
	}
	late, err := http.Post("http://"+f.Addr+"/r/late", "", nil)
	if err == nil {
		_, err = io.ReadAll(late.Body)
		late.Body.Close()
	}
	if err == nil {
		t.Errorf("late: the response looks complete")
	}
	if log := f.Logged(t); strings.Count(log, "msg=panic") != 2 || strings.Count(log, "reason=panic") != 2 {
		t.Errorf("the log does not show both:\n%s", log)
	}
}

// Our own API is bounded in what it reads.
func TestAdminBodyLimit(t *testing.T) {
	f := startEcho(t, api.Options{
		Limits: api.Limits{PlanBytes: 1000},
		Admin: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			api.WriteText(w, r, 200, fmt.Sprintf("%v %v", n, errors.Is(err, repo.ErrTooLarge)))
		}),
	})
	for size, want := range map[int]string{1000: "1000 false", 100_000: "true"} {
		response, err := http.Post("http://"+f.Addr+"/-/x", "application/json", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !strings.HasSuffix(string(body), want) || response.Close {
			t.Errorf("%d bytes: got %q, %v, want %q; connection closed: %v", size, body, err, want, response.Close)
		}
	}
}

// The wrappers keep what the connection can do: flush, deadlines, and sending files.
func TestWritersKeepAbilities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 3<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	f := serving(t, api.Options{}, func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("the writer cannot read from a file")
		}
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})); err != nil {
			t.Errorf("deadlines: %v", err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return false
		}
		defer file.Close()
		w.Header().Set("Content-Length", itoa(3<<20-10))
		w.WriteHeader(200)
		if err := rc.Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
		n, err := io.Copy(w, io.LimitReader(file, 3<<20-10))
		if err != nil || n != 3<<20-10 {
			t.Errorf("copy: got %d, %v", n, err)
		}
		return true
	})
	response, body := get(t, f.Addr, "GET", "/r")
	if response.StatusCode != 200 || len(body) != 3<<20-10 {
		t.Errorf("got %d, %d bytes", response.StatusCode, len(body))
	}
	if log := f.Logged(t); !strings.Contains(log, "out="+itoa(3<<20-10)) {
		t.Errorf("the log does not count the bytes:\n%s", log)
	}
}

// What a refused stranger sends is read a little, so that a small request is answered in step.
func TestStrangersBody(t *testing.T) {
	f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Secret: "s"}}})})
	for size, close := range map[int]bool{500 << 10: false, 3 << 20: true} {
		conn := f.Dial(t)
		go func() {
			// The server may stop reading.
			_, _ = fmt.Fprintf(conn, "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		}()
		response, err := readAnswer(t, conn)
		if err != nil || response.StatusCode != 401 || response.Close != close {
			t.Errorf("%d bytes: got %v, %v, want 401, close %v", size, response, err, close)
		}
	}
}

// A stranger cannot keep a connection by sending a byte now and then.
func TestStrangersSlowBody(t *testing.T) {
	inBubbleFor(t, api.AuthOptions{Tokens: []api.Token{{Secret: "s"}}}, api.Limits{}, nil, func(t *testing.T, dial func() net.Conn) {
		conn := dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		go func() {
			for {
				if _, err := io.WriteString(conn, "x"); err != nil {
					return
				}
				time.Sleep(10 * time.Second)
			}
		}()
		defer time.Sleep(10 * time.Second) // until that has ended
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 401 || !response.Close {
			t.Errorf("got %v, %v, want 401 and the end of the connection", response, err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(begin) > time.Minute {
			t.Errorf("the connection ends after %s, %v", time.Since(begin), err)
		}
	})
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := api.Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use: got %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got mode %v, %v, want 0660", info.Mode(), err)
	}
	// A process that was killed leaves its socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = api.Listen(t.Context(), "unix:"+path); err != nil {
		t.Fatalf("a socket left behind: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(t.Context(), "unix:"+path); err == nil {
		t.Errorf("a file was taken for a socket")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is gone: %v", err)
	}
	if l, err = api.Listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, address := range []string{"nonsense", "127.0.0.1:99999", "unix:/nonexistent/dir/socket", l.Addr().String()} {
		_, err := api.Listen(t.Context(), address)
		if err == nil {
			t.Errorf("%s: got no error", address)
			continue
		}
		// Whoever reads it is told the cause, and once what was tried.
		if text := err.Error(); !strings.HasPrefix(text, "listen on "+address+": ") || strings.Count(text, "listen ") != 1 {
			t.Errorf("%s: got %q", address, text)
		}
		if address == l.Addr().String() && !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v, want EADDRINUSE", err)
		}
	}
}
