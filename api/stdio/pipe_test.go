package stdio_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/api/stdio"
)

const accept = "Accept: application/vnd.x.borgstore.rest.v1\r\n"

func message(method, target, body string) string {
	m := method + " " + target + " HTTP/1.1\r\n" + accept
	if method != "GET" && method != "HEAD" {
		m += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return m + "\r\n" + body
}

// chunked is a message whose body comes in chunks.
func chunked(method, target string) string {
	return method + " " + target + " HTTP/1.1\r\n" + accept + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
}

// act is what a scripted holder does on one connection, after it has answered the pipe's hello. nil: it leaves
// without having taken the connection.
type act func(t *testing.T, conn net.Conn, r *bufio.Reader)

// request reads one request as a server does.
func request(t *testing.T, r *bufio.Reader) *http.Request {
	t.Helper()
	req, err := http.ReadRequest(r)
	if err != nil {
		t.Errorf("the holder got a bad request: %v", err)
		return &http.Request{Body: http.NoBody, Header: http.Header{}}
	}
	return req
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// answer serves any number of requests by text, with their bodies read.
func answer(text string) act {
	return func(t *testing.T, conn net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") != "" {
				fmt.Fprint(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			fmt.Fprint(conn, text)
		}
	}
}

// drop reads a head and closes.
func drop(t *testing.T, _ net.Conn, r *bufio.Reader) { request(t, r) }

func say(text string) act {
	return func(t *testing.T, conn net.Conn, r *bufio.Reader) {
		request(t, r)
		fmt.Fprint(conn, text)
	}
}

const leaving = "HTTP/1.1 503 Service Unavailable\r\n" + stdio.HeaderLeaving + ": 1\r\nContent-Length: 0\r\n\r\n"

// run has input go through a pipe to holders that follow the script, one connection each; the last serves all
// further ones.
func run(t *testing.T, input string, o stdio.Options, script ...act) (string, error) {
	t.Helper()
	return runFrom(t, strings.NewReader(input), func() {}, o, script...)
}

// runFrom is run with any input; closed is called when the first connection is.
func runFrom(t *testing.T, input io.Reader, closed func(), o stdio.Options, script ...act) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if do := script[min(n, len(script)-1)]; do != nil {
				r := bufio.NewReader(conn)
				if hello := request(t, r); hello.RequestURI != stdio.PathHello {
					t.Errorf("the first request of a connection: got %s, want %s", hello.RequestURI, stdio.PathHello)
				}
				fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				do(t, conn, r)
			}
			conn.Close()
			if n == 0 {
				closed()
			}
		}
	}()
	var out bytes.Buffer
	o.In, o.Out, o.Log = input, &out, slog.New(slog.DiscardHandler)
	o.Connect = func(ctx context.Context) (*stdio.Link, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		return stdio.NewLink(conn, http.Header{"X-Packhouse-Repository": {"r"}}), nil
	}
	err = stdio.Run(t.Context(), o)
	l.Close()
	<-done
	return out.String(), err
}

// frames reads responses as the client does: by Content-Length alone. methods are those asked.
func frames(out string, methods ...string) (statuses []string, bodies []string, err error) {
	r := bufio.NewReader(strings.NewReader(out))
	for i := 0; ; i++ {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return statuses, bodies, nil
		}
		fields := strings.Fields(line)
		if err != nil || len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
			return statuses, bodies, fmt.Errorf("status line %q: %v", line, err)
		}
		length := -1
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return statuses, bodies, err
			}
			if line = strings.TrimRight(line, "\r\n"); line == "" {
				break
			}
			if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				if _, err := fmt.Sscan(n, &length); err != nil {
					return statuses, bodies, err
				}
			}
		}
		if length < 0 {
			return statuses, bodies, errors.New("no Content-Length")
		}
		if i < len(methods) && methods[i] == "HEAD" {
			length = 0
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return statuses, bodies, err
		}
		statuses, bodies = append(statuses, fields[1]), append(bodies, string(body))
	}
}

// A connection that the holder closed between two requests is noticed before the second is sent: one
// that must not be repeated is answered, too.
func TestIdleConnectionClosed(t *testing.T) {
	in, feed := io.Pipe()
	closed := make(chan struct{})
	go func() {
		defer feed.Close()
		fmt.Fprint(feed, message("DELETE", "/a", ""))
		<-closed
		fmt.Fprint(feed, message("DELETE", "/b", ""))
	}()
	out, err := runFrom(t, in, func() { close(closed) }, stdio.Options{}, say(ok), answer(ok))
	if statuses, _, framed := frames(out); err != nil || framed != nil || strings.Join(statuses, " ") != "200 200" {
		t.Errorf("got %q, %v, %v; want two answers", out, err, framed)
	}
}

func TestPipe(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	for _, test := range []struct {
		name    string
		input   string
		options stdio.Options
		script  []act
		want    string // statuses
		body    string // of the last response, if not empty
		lost    bool
	}{
		{name: "nothing", want: ""},
		{name: "one", input: message("GET", "/a", ""), script: []act{answer(ok)}, want: "200", body: "ok"},
		{name: "bare line feeds and empty lines", input: "\r\n\nGET /a HTTP/1.1\n" + strings.ReplaceAll(accept, "\r", "") + "\n", script: []act{answer(ok)}, want: "200"},
		{name: "a body", input: message("POST", "/a", "hello") + message("GET", "/", ""), script: []act{answer(ok)}, want: "200 200"},
		{name: "a large body", input: message("POST", "/a", big) + message("GET", "/", ""), script: []act{answer(ok)}, want: "200 200"},

		// Who may be asked again.
		{name: "get, holder gone", input: message("GET", "/a", ""), script: []act{drop, answer(ok)}, want: "200"},
		{name: "delete, holder gone", input: message("DELETE", "/a", ""), script: []act{drop, answer(ok)}, lost: true},
		{name: "store, holder gone", input: message("POST", "/a", "x"), script: []act{drop, answer(ok)}, lost: true},
		{name: "hash, holder gone", input: message("POST", "/a?cmd=hash&algorithm=sha256", ""), script: []act{drop, answer(ok)}, want: "200"},
		{name: "move, holder gone", input: message("POST", "/a?x=cmd=hash&cmd=&cmd=move", ""), script: []act{drop, answer(ok)}, lost: true},
		{name: "what may be another command, holder gone", input: message("POST", "/a?%63md=move&cmd=hash", ""), script: []act{drop, answer(ok)}, lost: true},
		// What is done with the head alone may be done, whether there is a body to follow or not.
		{name: "chunked move, gone before its body", input: chunked("POST", "/?cmd=move&current=a&new=b"), script: []act{drop, answer(ok)}, lost: true},
		{name: "chunked delete, gone before its body", input: chunked("DELETE", "/a"), script: []act{drop, answer(ok)}, lost: true},
		{name: "move with a large body, gone before it", input: message("POST", "/?cmd=move&current=a&new=b", big), script: []act{drop, answer(ok)}, lost: true},
		{name: "chunked what may be a move, gone before its body", input: chunked("POST", "/?cmd=mov%65&current=a&new=b"), script: []act{drop, answer(ok)}, lost: true},
		{name: "chunked store, gone before its body", input: chunked("POST", "/a"), script: []act{drop, answer(ok)}, want: "200"},
		{name: "chunked defrag, gone before its body", input: chunked("POST", "/?cmd=defrag"), script: []act{drop, answer(ok)}, want: "200"},
		{name: "chunked move, leaving", input: chunked("POST", "/?cmd=move&current=a&new=b"), script: []act{say(leaving), answer(ok)}, want: "200"},
		{name: "delete, holder leaving", input: message("DELETE", "/a", ""), script: []act{say(leaving), say(leaving), answer(ok)}, want: "200"},
		{name: "delete, holder left before it took the connection", input: message("DELETE", "/a", ""), script: []act{nil, nil, answer(ok)}, want: "200"},
		{name: "503 of another kind", input: message("DELETE", "/a", ""), script: []act{answer("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")}, want: "503"},
		{name: "large store, gone before its body", input: message("POST", "/a", big), script: []act{drop, answer(ok)}, want: "200"},
		{name: "large store, leaving", input: message("POST", "/a", big), script: []act{say(leaving), answer(ok)}, want: "200"},
		{name: "large store, gone within its body", input: message("POST", "/a", big), script: []act{
			func(t *testing.T, conn net.Conn, r *bufio.Reader) {
				req := request(t, r)
				fmt.Fprint(conn, "HTTP/1.1 100 Continue\r\n\r\n")
				_, _ = io.CopyN(io.Discard, req.Body, 1000)
			}, answer(ok),
		}, lost: true},
		{name: "large store, refused unseen", input: message("POST", "/a", big) + message("GET", "/", ""), script: []act{
			say("HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"), answer(ok),
		}, want: "403 200"},
		{name: "large store, refused within", input: message("POST", "/a", big) + message("GET", "/", ""), script: []act{
			func(t *testing.T, conn net.Conn, r *bufio.Reader) {
				req := request(t, r)
				fmt.Fprint(conn, "HTTP/1.1 100 Continue\r\n\r\n")
				_, _ = io.CopyN(io.Discard, req.Body, 1000)
				fmt.Fprint(conn, "HTTP/1.1 507 Full\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
			}, answer(ok),
		}, want: "507 200"},
		{name: "chunked store, refused within", input: "POST /a HTTP/1.1\r\n" + accept + "Transfer-Encoding: chunked\r\n\r\n" +
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big) + message("GET", "/", ""), script: []act{
			func(t *testing.T, conn net.Conn, r *bufio.Reader) {
				req := request(t, r)
				fmt.Fprint(conn, "HTTP/1.1 100 Continue\r\n\r\n")
				_, _ = io.CopyN(io.Discard, req.Body, 1000)
				fmt.Fprint(conn, "HTTP/1.1 507 Full\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
			}, answer(ok),
		}, want: "507 200"},
		{name: "response breaks off", input: message("GET", "/a", ""), script: []act{say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), answer(ok)}, lost: true},

		// Framing.
		{name: "head", input: message("HEAD", "/a", "") + message("GET", "/a", ""), script: []act{
			func(t *testing.T, conn net.Conn, r *bufio.Reader) {
				request(t, r)
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 71000000\r\n\r\n")
				request(t, r)
				fmt.Fprint(conn, ok)
			},
		}, want: "200 200"},
		{name: "chunked response", input: message("GET", "/a", ""), script: []act{say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")}, want: "200", body: "abcde"},
		{name: "response until the end", input: message("GET", "/a", ""), script: []act{say("HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\nwhat?")}, want: "400", body: "what?"},
		{name: "chunked request", input: "POST /a HTTP/1.1\r\n" + accept + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + message("GET", "/", ""), script: []act{answer(ok)}, want: "200 200"},

		// Refused here.
		{name: "no Accept", input: "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + message("GET", "/", ""), script: []act{answer(ok)}, want: "406 200"},
		{name: "junk", input: "hello\r\n\r\n" + message("GET", "/", ""), script: []act{answer(ok)}, want: "400 200"},
		{name: "bad length", input: "POST /a HTTP/1.1\r\n" + accept + "Content-Length: -1\r\n\r\n" + message("GET", "/", ""), script: []act{answer(ok)}, want: "400 200"},
		{name: "bad field", input: "GET /a HTTP/1.1\r\n" + accept + "no colon\r\n\r\n" + message("GET", "/", ""), script: []act{answer(ok)}, want: "400 200"},
		{name: "control character", input: "GET /\x01 HTTP/1.1\r\n" + accept + "\r\n" + message("GET", "/", ""), script: []act{answer(ok)}, want: "400 200"},
		{name: "endless head", input: "GET /" + strings.Repeat("a", 1<<20), script: []act{answer(ok)}, want: "431"},
		{name: "many fields", input: "GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 1<<15), script: []act{answer(ok)}, want: "431"},
		{name: "cut head", input: "GET / HTTP/1.1\r\nAcc", script: []act{answer(ok)}, want: ""},
		{name: "cut body", input: strings.TrimSuffix(message("POST", "/a", "hello"), "o"), script: []act{answer(ok)}, want: ""},
		{name: "cut large body", input: strings.TrimSuffix(message("POST", "/a", big), "f"), script: []act{answer(ok)}, want: ""},
		{
			name: "credentials", options: stdio.Options{Username: "u", Password: "p"},
			input:  message("POST", "/a", big) + strings.Replace(message("GET", "/", ""), "\r\n\r\n", "\r\nAuthorization: basic dTpw\r\n\r\n", 1),
			script: []act{answer(ok)}, want: "401 200",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := test.script
			if script == nil {
				script = []act{answer(ok)}
			}
			out, err := run(t, test.input, test.options, script...)
			if test.lost {
				if !errors.Is(err, stdio.ErrLost) {
					t.Errorf("got %q, %v; want ErrLost", out, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("run: %v", err)
			}
			var methods []string
			if strings.HasPrefix(test.input, "HEAD") {
				methods = []string{"HEAD"}
			}
			statuses, bodies, err := frames(out, methods...)
			if err != nil {
				t.Fatalf("frames: %v in %q", err, out)
			}
			if got := strings.Join(statuses, " "); got != test.want {
				t.Errorf("statuses: got %q, want %q", got, test.want)
			}
			if test.body != "" && bodies[len(bodies)-1] != test.body {
				t.Errorf("body: got %q, want %q", bodies[len(bodies)-1], test.body)
			}
		})
	}
}

// TestWhatTheHolderSees: the target as it was, a Host, whose request it is; and nothing a client may not say.
func TestWhatTheHolderSees(t *testing.T) {
	input := "GET //%41?q=1 HTTP/1.1\r\n" + accept + "Range: bytes=1-\r\nX-Packhouse-Permissions: null\r\nx-packhouse-principal: root\r\nAccept-Encoding: gzip\r\nHost: evil\r\nConnection: close\r\n\r\n"
	out, err := run(t, input, stdio.Options{}, func(t *testing.T, conn net.Conn, r *bufio.Reader) {
		req := request(t, r)
		if req.RequestURI != "//%41?q=1" || req.Host != "packhouse" || req.Header.Get("Range") != "bytes=1-" || req.Close {
			t.Errorf("got %s %s %v", req.RequestURI, req.Host, req.Header)
		}
		for name, want := range map[string]string{"X-Packhouse-Repository": "r", "X-Packhouse-Permissions": "", "X-Packhouse-Principal": "", "Accept-Encoding": ""} {
			if got := req.Header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nX-BorgStore-Atime: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "HTTP/1.1 200 OK\r\nX-BorgStore-Atime: 1\r\nContent-Length: 0\r\n\r\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// FuzzPipe: whatever comes in, what goes out is whole responses.
func FuzzPipe(f *testing.F) {
	f.Add([]byte(message("GET", "/a", "")))
	f.Add([]byte(message("POST", "/a", "hello") + message("DELETE", "/a", "")))
	f.Add([]byte("POST /a HTTP/1.1\r\n" + accept + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("x y z\r\n\r\nContent-Length: 5\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		there, here := net.Pipe()
		go func() {
			defer there.Close()
			r := bufio.NewReader(there)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if req.Header.Get("Expect") != "" {
					fmt.Fprint(there, "HTTP/1.1 100 Continue\r\n\r\n")
				}
				if _, err := io.Copy(io.Discard, req.Body); err != nil {
					return
				}
				fmt.Fprint(there, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}()
		var out bytes.Buffer
		none := errors.New("no other holder")
		err := stdio.Run(t.Context(), stdio.Options{
			First: stdio.NewLink(here, nil), Connect: func(context.Context) (*stdio.Link, error) { return nil, none },
			In: bytes.NewReader(input), Out: &out, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil && !errors.Is(err, none) && !errors.Is(err, stdio.ErrLost) && !errors.Is(err, stdio.ErrInput) {
			t.Errorf("run: %v", err)
		}
		// HEAD is answered with length 0 here, so that the methods need not be known.
		if _, _, err := frames(out.String()); err != nil {
			// The pipe's own answers to HEAD announce a length and send nothing.
			if !bytes.Contains(input, []byte("HEAD ")) {
				t.Errorf("frames: %v in %q", err, out.String())
			}
		}
	})
}
