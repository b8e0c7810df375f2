package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Client sends HTTP requests to one server. It is safe for concurrent use.
type Client struct {
	base   string // without a slash at its end
	header http.Header
	http   *http.Client
}

// NewClient creates a client that keeps up to connections connections, over TLS if roots is not nil. header is sent with each
// request.
func NewClient(base string, header http.Header, connections int, roots *x509.CertPool) *Client {
	t := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, DisableCompression: true}
	if roots != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &Client{base: base, header: header, http: &http.Client{Transport: t}}
}

// Close closes the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is an answer with an error status.
type StatusError struct {
	Method, Target string
	Code           int
	Text           string // the beginning of the body
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.Target, e.Code, e.Text)
}

// absent tells that the server has no such thing.
func absent(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// request is one request and where its answer goes.
type request struct {
	method, target string
	header         http.Header // beside that of the client
	body           []byte
	into           io.Writer // nil: nowhere
}

// do carries out a request and returns how many bytes the body of the answer had. A status that is not 2xx is a
// *StatusError.
func (c *Client) do(ctx context.Context, r request) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, r.method, c.base+r.target, nil)
	if err != nil {
		return 0, err
	}
	if r.body != nil {
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	}
	for _, header := range []http.Header{c.header, r.header} {
		for name, values := range header {
			request.Header[name] = values
		}
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", r.method, r.target, err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return 0, &StatusError{r.method, r.target, response.StatusCode, strings.TrimSpace(string(text))}
	}
	n, err := read(response.Body, r.into)
	if err != nil {
		return n, fmt.Errorf("%s %s: %w", r.method, r.target, err)
	}
	return n, nil
}

// buffers are large, so that reading costs the generator little.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// read copies r to w; nil: nowhere.
func read(r io.Reader, w io.Writer) (n int64, err error) {
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	for {
		got, err := r.Read(buffer[:])
		n += int64(got)
		if w != nil && got > 0 {
			if _, err := w.Write(buffer[:got]); err != nil {
				return n, err
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// span is the header that asks for a part of an item; none for the whole of it.
func span(offset, length int64) http.Header {
	if length == 0 {
		return nil
	}
	return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)}}
}

// sendJSON sends a value and decodes the answer into another; nil: it is thrown away.
func (c *Client) sendJSON(ctx context.Context, method, target string, value, into any) error {
	r := request{method: method, target: target, header: http.Header{"Content-Type": {"application/json"}}}
	if value != nil {
		body, err := json.Marshal(value)
		if err != nil {
			return err
		}
		r.body = body
	}
	var answer bytes.Buffer
	if into != nil {
		r.into = &answer
	}
	if _, err := c.do(ctx, r); err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer.Bytes(), into); err != nil {
		return fmt.Errorf("%s %s: %w", method, target, err)
	}
	return nil
}

// objects counts the JSON objects of a listing, whose names have no braces, without decoding it.
type objects int64

func (o *objects) Write(p []byte) (int, error) {
	*o += objects(bytes.Count(p, []byte{'{'}))
	return len(p), nil
}

// quotes counts quotation marks: a listing of many items is counted without decoding it.
type quotes int64

func (q *quotes) Write(p []byte) (int, error) {
	*q += quotes(bytes.Count(p, []byte{'"'}))
	return len(p), nil
}
