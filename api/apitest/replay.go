package apitest

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the server answers into the transcripts")

// ReplayDir replays every *.txt of a directory, each as a subtest with its own server.
func ReplayDir(t *testing.T, dir string, start func(t *testing.T) *Fixture) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts in %s: %v", dir, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			Replay(t, start(t).Addr, path)
		})
	}
}

// Replay sends the requests of a transcript to a server and compares its answers.
func Replay(t *testing.T, address, path string) {
	t.Helper()
	exchanges, lines, err := parse(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &replayer{t: t, dial: dialer(address)}
	defer r.close()
	answers := make([][]string, len(exchanges))
	for i, x := range exchanges {
		where := fmt.Sprintf("%s:%d: %s %s", filepath.Base(path), x.line, x.method, x.target)
		response, body, err := r.do(x)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		answers[i] = x.record(response, body)
		if !*update {
			x.compare(t, where, response, body)
		}
	}
	if *update {
		if err := rewrite(path, lines, exchanges, answers); err != nil {
			t.Fatal(err)
		}
	}
}

// ReplayOn sends the requests of a transcript over one connection of any kind. All of them must be answered on it. The
// server has its own clock.
func ReplayOn(t *testing.T, conn io.ReadWriteCloser, path string) {
	t.Helper()
	exchanges, _, err := parse(path)
	if err != nil {
		t.Fatal(err)
	}
	dialed := false
	r := &replayer{t: t, dial: func() (io.ReadWriteCloser, error) {
		if dialed {
			return nil, errors.New("the server closed the connection")
		}
		dialed = true
		return conn, nil
	}}
	defer conn.Close()
	for _, x := range exchanges {
		where := fmt.Sprintf("%s:%d: %s %s", filepath.Base(path), x.line, x.method, x.target)
		x.reconnect = false
		response, body, err := r.do(x)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		x.elsewhere(t, where, response, body).compare(t, where, response, body)
	}
}

// replayer holds the connection that requests share.
type replayer struct {
	t      *testing.T
	dial   func() (io.ReadWriteCloser, error)
	conn   io.ReadWriteCloser
	reader *bufio.Reader
}

// dialer opens connections to an address.
func dialer(address string) func() (io.ReadWriteCloser, error) {
	return func() (io.ReadWriteCloser, error) { return net.Dial("tcp", address) }
}

func (r *replayer) close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// do sends one request and reads its answer.
func (r *replayer) do(x *exchange) (*http.Response, []byte, error) {
	if x.reconnect {
		r.close()
	}
	if r.conn == nil {
		conn, err := r.dial()
		if err != nil {
			return nil, nil, err
		}
		r.conn, r.reader = conn, bufio.NewReader(conn)
	}
	if conn, ok := r.conn.(net.Conn); ok {
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return nil, nil, err
		}
	}
	if _, err := r.conn.Write(x.wire("packhouse.test")); err != nil {
		return nil, nil, fmt.Errorf("send: %w", err)
	}
	response, err := http.ReadResponse(r.reader, &http.Request{Method: x.method})
	if err != nil {
		return nil, nil, fmt.Errorf("read answer: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("read answer's body: %w", err)
	}
	if response.ContentLength < 0 || len(response.TransferEncoding) > 0 {
		return nil, nil, fmt.Errorf("status %d without Content-Length", response.StatusCode)
	}
	if response.Close {
		r.close()
	}
	return response, body, nil
}

// wire is the request as it is sent.
func (x *exchange) wire(host string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", x.method, x.target)
	chunked, length, hosted := false, false, false
	for _, h := range x.headers {
		switch strings.ToLower(h.name) {
		case "transfer-encoding":
			chunked = true
		case "content-length":
			length = true
		case "host":
			hosted = true
		}
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	if !hosted {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	if !length && !chunked && (x.hasBody || x.method != http.MethodGet && x.method != http.MethodHead) {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(x.body))
	}
	b.WriteString("\r\n")
	if !chunked {
		b.WriteString(x.body)
		return b.Bytes()
	}
	for body := x.body; body != ""; {
		n := min(len(body), 7) // a size that divides nothing
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}

// compare reports each difference from what is expected.
func (x *exchange) compare(t *testing.T, where string, response *http.Response, body []byte) {
	t.Helper()
	if response.StatusCode != x.status {
		t.Errorf("%s: got status %d, want %d; body %q", where, response.StatusCode, x.status, shorten(body))
		return
	}
	for _, want := range x.wants {
		values := response.Header.Values(want.name)
		switch {
		case strings.EqualFold(want.name, "Content-Length"):
			values = []string{strconv.FormatInt(response.ContentLength, 10)}
		case len(values) == 0:
			t.Errorf("%s: got no header %s", where, want.name)
			continue
		}
		if got := strings.Join(values, ", "); want.value != "*" && got != want.value {
			t.Errorf("%s: got %s: %s, want %s", where, want.name, got, want.value)
		}
	}
	for _, name := range x.forbids {
		if values := response.Header.Values(name); len(values) > 0 {
			t.Errorf("%s: got header %s: %s, want none", where, name, values)
		}
	}
	if difference := x.differs(body); difference != "" {
		t.Errorf("%s: %s", where, difference)
	}
}

// differs says how a body is not the one that is expected; "" if it is.
func (x *exchange) differs(body []byte) string {
	switch {
	case x.wantRE != nil && !x.wantRE.Match(body):
		return fmt.Sprintf("got body %q, want %s", shorten(body), x.wantRE)
	case x.wantRE == nil && string(body) != x.wantB:
		return fmt.Sprintf("got body %q, want %q", shorten(body), shorten([]byte(x.wantB)))
	}
	return ""
}

func shorten(b []byte) string {
	if len(b) > 500 {
		return string(b[:500]) + fmt.Sprintf("… (%d bytes)", len(b))
	}
	return string(b)
}

// record is the answer in the form of a transcript, with the headers that the expectation looks at.
func (x *exchange) record(response *http.Response, body []byte) []string {
	lines := []string{fmt.Sprintf("< %d", response.StatusCode)}
	for _, want := range x.wants {
		value := strings.Join(response.Header.Values(want.name), ", ")
		if strings.EqualFold(want.name, "Content-Length") {
			value = strconv.FormatInt(response.ContentLength, 10)
		}
		if want.value == "*" {
			value = "*"
		}
		lines = append(lines, fmt.Sprintf("< %s: %s", want.name, value))
	}
	for _, name := range x.forbids {
		lines = append(lines, "< !"+name)
	}
	if x.other != "" {
		lines = append(lines, strings.TrimSpace("<ref "+x.other+" "+x.why))
	}
	switch {
	case x.wantRE != nil:
		return append(lines, "<<~ "+x.wantRE.String())
	case len(body) == 0:
		return lines
	}
	text := string(body)
	if quoted := strconv.Quote(text); quoted != `"`+strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(text)+`"` {
		return append(lines, "<<= "+quoted)
	}
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, "<< "+line)
	}
	return lines
}

// rewrite puts the answers in place of the expectations.
func rewrite(path string, lines []string, exchanges []*exchange, answers [][]string) error {
	var out []string
	from := 0
	for i, x := range exchanges {
		if x.answer[1] == 0 {
			return fmt.Errorf("%s:%d: the request needs a line \"< 0\" to be replaced", path, x.line)
		}
		out = append(out, lines[from:x.answer[0]]...)
		out = append(out, answers[i]...)
		from = x.answer[1]
	}
	out = append(out, lines[from:]...)
	return os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"), 0o644)
}
