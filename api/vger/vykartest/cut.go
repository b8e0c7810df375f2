package vykartest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"syscall"
)

// Cut is how one request fails.
type Cut int

const (
	Whole        Cut = iota // it does not
	Refused                 // nobody listens, of which the client does not try again
	Before                  // the connection ends before anything was sent
	Midway                  // in the middle of the request's body; of one without a body like Before
	Unanswered              // when the request was sent, before anything is answered: the server may notice at once
	Late                    // when the server has its answer, of which nothing arrives
	Short                   // in the middle of the answer; of one without a body like Late
	Swallowed               // behind a proxy that took the whole answer: the client gets 502
	KilledBefore            // the client dies before it sends
	KilledAfter             // the client dies when its request was answered
	cuts
)

var cutNames = [cuts]string{"whole", "refused", "before", "midway", "unanswered", "late", "short", "swallowed", "killed before", "killed after"}

func (c Cut) String() string { return cutNames[c] }

// Reset is the error of a connection that was cut.
func Reset(r *http.Request, c Cut) error {
	err := syscall.ECONNRESET
	if c == Refused {
		err = syscall.ECONNREFUSED
	}
	return fmt.Errorf("%s of %s %s: %w", c, r.Method, r.URL.RequestURI(), err)
}

// BadGateway is what a proxy answers that lost the server's answer.
func BadGateway(r *http.Request) *http.Response {
	const text = "bad gateway"
	return &http.Response{
		Status: "502 Bad Gateway", StatusCode: http.StatusBadGateway, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), Request: r,
	}
}

// Cutter sends requests on and cuts some. It is safe for concurrent use.
type Cutter struct {
	Next http.RoundTripper // nil means http.DefaultTransport
	// Choose is asked before each request; n counts them from 1. nil: nothing is cut. It is called by one goroutine at a time.
	Choose func(n int, r *http.Request) Cut
	Target *url.URL // of ServeHTTP

	mu   sync.Mutex
	n    int
	dead bool
}

// Stop ends the cutting. Requests under way may still be cut.
func (c *Cutter) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Choose = nil
}

// Requests is how many requests there were.
func (c *Cutter) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *Cutter) choose(r *http.Request) Cut {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return KilledBefore
	}
	c.n++
	cut := Whole
	if c.Choose != nil {
		cut = c.Choose(c.n, r)
	}
	c.dead = cut == KilledBefore || cut == KilledAfter
	return cut
}

// RoundTrip implements http.RoundTripper.
func (c *Cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	next := c.Next
	if next == nil {
		next = http.DefaultTransport
	}
	switch cut := c.choose(r); cut {
	case Refused, Before:
		return nil, Reset(r, cut)
	case KilledBefore:
		return nil, ErrKilled
	case Midway:
		if r.ContentLength <= 0 {
			return nil, Reset(r, cut)
		}
		half := r.Clone(r.Context())
		half.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), failingReader{Reset(r, cut)}))
		half.GetBody = nil
		if response, err := next.RoundTrip(half); err == nil {
			response.Body.Close()
		}
		return nil, Reset(r, cut)
	case Unanswered:
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { cancel() }}
		response, err := next.RoundTrip(r.WithContext(httptrace.WithClientTrace(ctx, trace)))
		if err == nil {
			response.Body.Close()
		}
		return nil, Reset(r, cut)
	case Late, Short, Swallowed, KilledAfter:
		response, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		return c.spoil(r, response, cut)
	default:
		return next.RoundTrip(r)
	}
}

// spoil is what arrives of an answer.
func (c *Cutter) spoil(r *http.Request, response *http.Response, cut Cut) (*http.Response, error) {
	if cut == Late {
		response.Body.Close()
		return nil, Reset(r, cut)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	switch {
	case err != nil:
		return nil, err
	case cut == Swallowed:
		return BadGateway(r), nil
	case cut == KilledAfter:
		return nil, ErrKilled
	case len(body) == 0:
		return nil, Reset(r, cut)
	}
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), failingReader{io.ErrUnexpectedEOF}))
	return response, nil
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// ServeHTTP is a proxy in front of Target, for clients that are programs: it cuts their connections. Whoever uses it must kill the
// client itself.
func (c *Cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = c.Target.Scheme, c.Target.Host
	response, err := c.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	n, err := io.Copy(w, response.Body)
	if err != nil {
		if flusher, ok := w.(http.Flusher); ok && n > 0 {
			flusher.Flush()
		}
		panic(http.ErrAbortHandler)
	}
}
