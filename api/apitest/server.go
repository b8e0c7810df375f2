package apitest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo/datadir"
)

// Fixture is a server on a real listener over repositories in a temporary directory.
type Fixture struct {
	Server *api.Server
	Set    *datadir.Set
	Dir    string // of the data
	Addr   string // host:port
	Log    *Log
}

// Start runs a server until the test ends. Options that o does not set get defaults: Set (one of many repositories), Auth
// (none), Logger (Fixture.Log), Version.
func Start(t testing.TB, o api.Options) *Fixture {
	t.Helper()
	f := &Fixture{Set: o.Set, Dir: t.TempDir(), Log: new(Log)}
	if o.Set == nil {
		f.Set = datadir.Open(datadir.Options{Dir: f.Dir})
		t.Cleanup(func() {
			if err := f.Set.Close(); err != nil {
				t.Errorf("close repositories: %v", err)
			}
		})
	}
	o.Set = f.Set
	if o.Auth == nil {
		auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
		if err != nil {
			t.Fatalf("NewAuth: %v", err)
		}
		o.Auth = auth
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(f.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.Limits.Last == 0 {
		o.Limits.Last = time.Millisecond // clients of tests keep connections and send nothing more
	}
	if o.Version == "" {
		o.Version = "test"
	}
	server, err := api.New(o)
	if err != nil {
		t.Fatalf("api.New: %v", err)
	}
	f.Server, f.Addr = server, f.Serve(t, server, false)
	return f
}

// Logged is what was logged until now, with the lines of all requests that have ended: those are written behind the replies.
// Requests that run are waited for, two seconds at most.
func (f *Fixture) Logged(t testing.TB) string {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); f.Server.Active() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.Server.FlushLog(ctx); err != nil {
		t.Fatalf("flush the log: %v", err)
	}
	return f.Log.String()
}

// Serve opens one more listener and returns its address.
func (f *Fixture) Serve(t testing.TB, server *api.Server, trusted bool) string {
	t.Helper()
	return f.ServeOn(t, server, trusted, func(l net.Listener) net.Listener { return l })
}

// ServeOn is Serve with a listener that wrap makes of one for TCP.
func (f *Fixture) ServeOn(t testing.TB, server *api.Server, trusted bool, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	l, err := api.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(api.Listener{Listener: wrap(l), Trusted: trusted}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return l.Addr().String()
}

// Dial opens a connection to the server.
func (f *Fixture) Dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Log stores what was logged.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends one line.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all lines so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Await waits until a line behind the first seen bytes matches, ten seconds at most: lines of requests are written behind the replies.
func (l *Log) Await(t testing.TB, seen int, pattern string) {
	t.Helper()
	line := regexp.MustCompile("(?m)" + pattern)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		text := l.String()[seen:]
		if line.MatchString(text) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the log has no line like %s:\n%s", pattern, text)
			return
		}
	}
}
