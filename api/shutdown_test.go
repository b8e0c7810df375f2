package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/api"
	"packhouse/repo/datadir"
)

// A client at work does not see a request fail because the server stops: what it sends on a connection that it has is
// answered, and the answer tells it to open another, which waits for the next process. Idle connections do not hold the
// server up.
func TestShutdownAnswersOpenConnections(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		finish := sync.OnceFunc(func() { close(release) })
		defer finish()
		server, err := api.New(api.Options{
			Set: datadir.Open(datadir.Options{Dir: dir}), Auth: newAuth(t, api.AuthOptions{NoAuth: true}),
			Dialects: []api.Dialect{echo{name: "plain", serve: func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
				switch target.Path {
				case "/begun":
					w.Header().Set("Content-Length", "2")
					w.WriteHeader(http.StatusOK)
					_ = http.NewResponseController(w).Flush()
					<-release
					_, _ = io.WriteString(w, "ok")
				case "/silent": // 200, by net/http
				default:
					return false
				}
				return true
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		l := pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(api.Listener{Listener: l}) }()
		dial := func() net.Conn {
			client, conn := net.Pipe()
			l.accepted <- conn
			return client
		}
		send := func(conn net.Conn, path string) {
			t.Helper()
			if _, err := io.WriteString(conn, "GET /r"+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Errorf("send GET %s: %v", path, err)
			}
		}
		ask := func(conn net.Conn, path string, last bool) {
			t.Helper()
			send(conn, path)
			response, err := readAnswer(t, conn)
			if err != nil {
				t.Errorf("GET %s: %v", path, err)
				return
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Errorf("GET %s: %v", path, err)
			}
			if response.StatusCode != http.StatusOK || response.Close != last {
				t.Errorf("GET %s: got %s, close %v, want 200 and %v", path, response.Status, response.Close, last)
			}
		}
		// ended demands that the connection is closed, so long after the stop began.
		var began time.Time
		ended := func(what string, conn net.Conn, after time.Duration) {
			t.Helper()
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%s: got %d bytes, %v, want the end", what, n, err)
			}
			if took := time.Since(began); took < after || took > after+50*time.Millisecond {
				t.Errorf("%s: ended after %v, want %v", what, took, after)
			}
		}

		long, idle, working, silent, begun, first, never := dial(), dial(), dial(), dial(), dial(), dial(), dial()
		ask(long, "", false)
		time.Sleep(time.Second)
		// The connections that have not sent anything are new.
		first.Close()
		never.Close()
		first, never = dial(), dial()
		send(begun, "/begun")
		response, err := readAnswer(t, begun)
		if err != nil || response.Close {
			t.Fatalf("the answer that begins before the stop: got %+v, %v", response, err)
		}
		for _, conn := range []net.Conn{idle, working, silent} {
			ask(conn, "", false)
		}
		synctest.Wait()

		began = time.Now()
		stopped := make(chan error, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go func() { stopped <- server.Shutdown(ctx) }()
		synctest.Wait()
		ended("idle for long", long, 0)
		time.Sleep(200 * time.Millisecond)
		ask(silent, "/silent", true)
		ended("after the last answer", silent, 200*time.Millisecond)
		finish()
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != "ok" {
			t.Errorf("the answer that began before the stop: got %q, %v", text, err)
		}
		time.Sleep(200 * time.Millisecond)
		ask(working, "", true)
		ended("idle", idle, 500*time.Millisecond)
		time.Sleep(100 * time.Millisecond)
		ask(begun, "", true)
		time.Sleep(1200 * time.Millisecond)
		ask(first, "", true)
		ended("without any request", never, 2*time.Second)
		if err := <-stopped; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(began); took > 2100*time.Millisecond {
			t.Errorf("Shutdown took %v", took)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: got %v", err)
		}
	})
}
