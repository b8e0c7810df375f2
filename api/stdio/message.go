package stdio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// head is the first line and the headers of a message, as they came.
type head struct {
	line   string
	fields []field
}

type field struct{ name, value string }

// get returns the first field of that name.
func (h *head) get(name string) (string, bool) {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return "", false
}

var (
	errTooLong   = errors.New("the headers are too long")
	errMalformed = errors.New("malformed request")
)

// readHead reads up to and with the empty line. Lines end with LF or CRLF. io.EOF: nothing came;
// io.ErrUnexpectedEOF: it broke off; errMalformed and errTooLong leave r behind the head, or anywhere.
func readHead(r *bufio.Reader) (*head, error) {
	h := &head{}
	var bad error
	for total := 0; ; {
		line, err := r.ReadSlice('\n')
		total += len(line)
		if errors.Is(err, bufio.ErrBufferFull) || total > maxHead {
			return nil, errTooLong
		}
		if err != nil {
			if errors.Is(err, io.EOF) && total > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case h.line == "" && len(line) == 0: // empty lines between requests
		case h.line == "":
			h.line = string(line)
		case len(line) == 0:
			return h, bad
		default:
			name, value, ok := strings.Cut(string(line), ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(value, "\r\x00") {
				bad = errMalformed
				continue
			}
			h.fields = append(h.fields, field{name, strings.TrimSpace(value)})
		}
	}
}

// request is what a client asks.
type request struct {
	method, target string
	head           *head
	length         int64 // of the body; -1: chunked
}

// parseRequest makes sense of a head.
func parseRequest(h *head) (*request, error) {
	parts := strings.Split(h.line, " ")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || !strings.HasPrefix(parts[2], "HTTP/") ||
		strings.ContainsFunc(h.line, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return nil, errMalformed
	}
	r := &request{method: parts[0], target: parts[1], head: h}
	if !strings.HasPrefix(r.target, "/") {
		_, rest, _ := strings.Cut(r.target, "://")
		_, path, _ := strings.Cut(rest, "/")
		r.target = "/" + path
	}
	if coding, ok := h.get("Transfer-Encoding"); ok {
		if !strings.EqualFold(coding, "chunked") {
			return nil, errMalformed
		}
		r.length = -1
	} else if text, ok := h.get("Content-Length"); ok {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return nil, errMalformed
		}
		r.length = int64(n)
	}
	return r, nil
}

// repeatable tells whether asking twice changes nothing.
func (r *request) repeatable() bool {
	switch command, certain := r.command(); {
	case r.method == http.MethodGet || r.method == http.MethodHead:
		return true
	case r.method == http.MethodPost && certain:
		return command == "hash" || command == "gather" || command == "quota"
	}
	return false
}

// needsBody tells whether the holder does nothing before it has the body. To others it does not matter: a move is carried out
// when its head is there, whatever follows.
func (r *request) needsBody() bool {
	command, certain := r.command()
	return r.method == http.MethodPost && certain && (command == "" || command == "defrag" || command == "gather")
}

// command returns what the holder takes for the command of a POST or DELETE, the first that is not empty; not certain where that
// takes more than a look at the query.
func (r *request) command() (command string, certain bool) {
	_, query, _ := strings.Cut(r.target, "?")
	if strings.ContainsAny(r.target, "#") {
		return "", false
	}
	for parameter := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(parameter, "=")
		if strings.ContainsAny(key, "%+") || key == "cmd" && strings.ContainsAny(value, "%+") {
			return "", false
		}
		if key == "cmd" && value != "" {
			return value, true
		}
	}
	return "", true
}

// ours are fields that concern one connection, that only a pipe may set, or that ask for what a client on stdio cannot
// read: a response is never compressed there.
func ours(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Host", "Expect", "Content-Length",
		"Authorization", "Proxy-Authorization", "Proxy-Connection", "Accept-Encoding":
		return true
	}
	return len(name) >= 12 && strings.EqualFold(name[:12], "X-Packhouse-")
}

// appendTo writes the request as the holder is to see it.
func (r *request) appendTo(b []byte, extra http.Header, await bool) []byte {
	b = fmt.Appendf(b, "%s %s HTTP/1.1\r\nHost: packhouse\r\n", r.method, r.target)
	for _, f := range r.head.fields {
		if !ours(f.name) {
			b = fmt.Appendf(b, "%s: %s\r\n", f.name, f.value)
		}
	}
	for name, values := range extra {
		for _, value := range values {
			b = fmt.Appendf(b, "%s: %s\r\n", name, value)
		}
	}
	if _, ok := r.head.get("Content-Length"); ok && r.length >= 0 {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", r.length)
	}
	if r.length < 0 {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if await {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	return append(b, "\r\n"...)
}

// response is what the holder answers.
type response struct {
	head   *head
	status int
	length int64 // of the body; -1: it ends with the connection, or is chunked
}

func readResponse(r *bufio.Reader) (*response, error) {
	h, err := readHead(r)
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(h.line, " ", 3)
	if len(parts) < 2 {
		return nil, errMalformed
	}
	status, err := strconv.Atoi(parts[1])
	if err != nil || status < 100 || status > 999 {
		return nil, errMalformed
	}
	resp := &response{head: h, status: status, length: -1}
	if text, ok := h.get("Content-Length"); ok {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return nil, errMalformed
		}
		resp.length = int64(n)
	} else if status == http.StatusNoContent || status == http.StatusNotModified || status < 200 {
		resp.length = 0
	}
	return resp, nil
}

// writeTo frames a response for the client, which goes by Content-Length alone.
func (r *response) writeTo(w *bufio.Writer, length int64) error {
	fmt.Fprintf(w, "%s\r\n", r.head.line)
	for _, f := range r.head.fields {
		if !ours(f.name) {
			fmt.Fprintf(w, "%s: %s\r\n", f.name, f.value)
		}
	}
	_, err := fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", length)
	return err
}

// answer writes a response of the pipe's own.
func answer(w *bufio.Writer, withBody bool, status int, text string, extra ...string) error {
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n", status, http.StatusText(status))
	for _, line := range extra {
		fmt.Fprintf(w, "%s\r\n", line)
	}
	fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", len(text))
	if withBody {
		fmt.Fprint(w, text)
	}
	return w.Flush()
}
