package ui

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"sync"

	"packhouse/api/client"
)

// sender is what a request to the API has of the request that it is made for: who asks, from where, and with what credentials.
type sender struct {
	authorization string // "": none
	remote        string
	forwarded     http.Header // what proxies say of the client
	tls           *tls.ConnectionState
}

// senderOf takes a sender from the request of a browser.
func (h *Handler) senderOf(r *http.Request, authorization string) sender {
	s := sender{authorization: authorization, remote: r.RemoteAddr, forwarded: http.Header{}, tls: r.TLS}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", h.o.ProxyHeader()} {
		if values := r.Header.Values(name); len(values) > 0 {
			s.forwarded[http.CanonicalHeaderKey(name)] = values
		}
	}
	return s
}

// transport gives requests to the handler of the API, in this process.
type transport struct {
	sender
	server http.Handler
}

var _ http.RoundTripper = (*transport)(nil)

// client is one of the API that is asked as the sender asks.
func (h *Handler) client(s sender) *client.Client {
	return &client.Client{HTTP: &http.Client{Transport: &transport{s, h.o.Server()}}, Far: true} // with nothing that needs the server's own socket
}

// errCut is that the API ended an answer before its end. The log has the reason.
var errCut = errors.New("the answer ended early; the server's log says why")

// RoundTrip implements http.RoundTripper: it returns when the handler has written the header. The handler goes on until it is done, or until
// the body is closed.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	// The context of the browser's request has values of the server that are about its connection, and must not be taken for those of this
	// request.
	ctx, cancel := context.WithCancel(context.Background())
	unbind := context.AfterFunc(r.Context(), cancel)
	in := r.Clone(ctx)
	in.RequestURI, in.RemoteAddr, in.TLS, in.Host = r.URL.RequestURI(), t.remote, t.tls, r.URL.Host
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Body == nil {
		in.Body = http.NoBody
	}
	for name, values := range t.forwarded {
		in.Header[name] = values
	}
	if t.authorization != "" {
		in.Header.Set("Authorization", t.authorization)
	}
	reader, writer := io.Pipe()
	a := &answer{header: http.Header{}, body: writer, begun: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if recover() != nil { // the server has logged it; http.ErrAbortHandler is how it cuts an answer
				a.WriteHeader(http.StatusBadGateway)
				_ = writer.CloseWithError(errCut)
			}
		}()
		t.server.ServeHTTP(a, in)
		a.WriteHeader(http.StatusOK)
		_ = writer.Close()
	}()
	<-a.begun
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: in.Proto, ProtoMajor: 1, ProtoMinor: 1, Header: a.sent,
		ContentLength: -1, Request: r,
		Body: &answerBody{PipeReader: reader, end: func() {
			unbind()
			cancel()
			<-done
		}},
	}, nil
}

// answer is the http.ResponseWriter of one request. It is for the goroutine of the handler.
type answer struct {
	header, sent http.Header
	status       int // 0: not yet
	begun        chan struct{}
	body         *io.PipeWriter
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status, a.sent = status, a.header.Clone()
	close(a.begun)
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// Flush implements http.Flusher: nothing is held back.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

// answerBody ends the handler when it is closed.
type answerBody struct {
	*io.PipeReader
	once sync.Once
	end  func()
}

func (b *answerBody) Close() error {
	err := b.PipeReader.Close()
	b.once.Do(b.end)
	return err
}
