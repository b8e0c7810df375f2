package api_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api"
)

// TestAmbiguousRequests: what another reader of the same bytes may understand otherwise is refused, or is the last on its
// connection, wherever it stands among other requests, and in whatever pieces it arrives; what is not ambiguous is served.
func TestAmbiguousRequests(t *testing.T) {
	const get = "GET /r HTTP/1.1\r\nHost: x\r\n\r\n"
	post := func(body string) string {
		return fmt.Sprintf("POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	chunked := func(body string) string {
		return fmt.Sprintf("POST /r HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n1\r\n\n\r\n0\r\nTrailer: x\r\n y\r\n\r\n", len(body), body)
	}
	const both = "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	const folded = "GET /r HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"
	like := "\r\n\r\nGET /r HTTP/1.1\r\nHost: x\r\n folded: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, test := range []struct{ name, input, want string }{
		{"one", get, "200"},
		{"many", get + post("abc") + chunked("abc") + get + post("") + get, "200 200 200 200 200 200"},
		{"bodies like heads", post(like) + chunked(like) + get, "200 200 200"},
		{"bare line feeds", strings.ReplaceAll(get+post("abc")+get, "\r\n", "\n"), "200 200 200"},
		{"long lines", "GET /r HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("\t ", 2000) + "\r\nContent-Length: 3\r\n\r\nabc" + get, "200 200"},
		{"both", both + get, "200 close"},
		{"both, the other way round", strings.Replace(both, "Content-Length: 3\r\nTransfer-Encoding: chunked", "tRANSFER-eNCODING:chunked\r\nX: y\r\ncontent-length:\t3", 1) + get, "200 close"},
		{"both, later", get + post("abc") + chunked("abc") + both + get, "200 200 200 200 close"},
		{"both, HTTP/1.0", strings.Replace(both, "1.1", "1.0", 1) + get, "200 close"},
		{"folded", folded + get, "400 close"},
		{"folded by a tab", strings.Replace(folded, " b", "\tb", 1) + get, "400 close"},
		{"folded at first", "GET /r HTTP/1.1\r\n Host: x\r\n\r\n" + get, "400 close"},
		{"folded at last, later", get + chunked("abc") + post("abc") + "GET /r HTTP/1.1\r\nHost: x\r\n \r\n\r\n" + get, "200 200 200 400 close"},
		{"folded length", "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 3\r\n\r\nabc", "400 close"},
	} {
		for _, network := range []string{"tcp", "unix"} {
			for _, piece := range []int{1 << 20, 1} {
				t.Run(fmt.Sprintf("%s/%s/%d", test.name, network, piece), func(t *testing.T) {
					t.Parallel()
					conn := dialServed(t, network)
					go func() {
						for in := []byte(test.input); len(in) > 0; {
							n := min(piece, len(in))
							if _, err := conn.Write(in[:n]); err != nil {
								return // it closes early
							}
							in = in[n:]
						}
					}()
					got := statuses(t, conn, strings.Fields(test.want))
					if piece == 1 && strings.HasSuffix(test.want, "400 close") && got == strings.Replace(test.want, "400 ", "", 1) {
						return // the rest of the request reset the connection before the answer was read
					}
					if got != test.want {
						t.Errorf("got %q, want %q", got, test.want)
					}
				})
			}
		}
	}
}

// dialServed connects to a server that reads bodies and answers 200, over a network of its own.
func dialServed(t *testing.T, network string) net.Conn {
	t.Helper()
	f := serving(t, api.Options{}, func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Errorf("body: %v", err)
		}
		api.WriteBytes(w, r, 200, "text/plain", []byte("ok"))
		return true
	})
	address := map[string]string{"tcp": "127.0.0.1:0", "unix": "unix:" + filepath.Join(t.TempDir(), "s")}[network]
	l, err := api.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	go f.Server.Serve(api.Listener{Listener: l})
	conn, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// statuses reads as many answers as are wanted, and whether the connection is closed then.
func statuses(t *testing.T, conn net.Conn, want []string) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for in := bufio.NewReader(conn); len(got) < len(want); {
		response, err := http.ReadResponse(in, nil)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			got = append(got, "close")
			break
		}
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(response.StatusCode))
		if last := want[len(want)-1] == "close"; !last && len(got) == len(want) && response.Close {
			got = append(got, "close")
		}
	}
	return strings.Join(got, " ")
}

// FuzzFraming: whatever comes, in whatever pieces, is followed in the same way, and nothing of it is changed.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("POST /r HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"), uint8(3))
	f.Add([]byte("POST /r HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n"), uint8(1))
	f.Add([]byte("POST /r HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), uint8(7))
	f.Fuzz(func(t *testing.T, input []byte, piece uint8) {
		whole, pieces := bytes.Clone(input), bytes.Clone(input)
		last := api.Follow(whole)
		var parts [][]byte
		for rest := pieces; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			parts, rest = append(parts, rest[:n]), rest[n:]
		}
		if got := api.Follow(parts...); got != last {
			t.Errorf("in pieces of %d: got %v; whole: %v", int(piece)+1, got, last)
		}
		if !bytes.Equal(whole, input) || !bytes.Equal(pieces, input) {
			t.Error("the bytes were changed")
		}
	})
}
