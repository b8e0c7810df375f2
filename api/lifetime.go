package api

import (
	"context"
	"net/http"
)

// lifetime ends a request when the token ends that it came with: its context is cancelled, and its connection is closed, so
// that nothing waits for the client any more. No other request is on the connection, as each answers before the next is read.
type lifetime struct {
	token context.Context
	stop  func() bool
	ended chan struct{} // closed when the request was ended
}

// bind binds a request to the life of its sender's token.
func bind(r *http.Request, token context.Context) (*lifetime, *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	l := &lifetime{token: token, ended: make(chan struct{})}
	connection, _ := r.Context().Value(connectionKey).(*connectionOf)
	stop := context.AfterFunc(token, func() {
		defer close(l.ended)
		cancel(context.Cause(token))
		if connection != nil {
			_ = connection.conn.Close()
		}
	})
	l.stop = func() bool {
		defer cancel(nil)
		return stop()
	}
	return l, r.WithContext(ctx)
}

// over ends what bind began, and tells whether the token has ended before the request did. It may be called once. Afterwards
// the connection is safe.
func (l *lifetime) over() bool {
	if l == nil || l.stop() {
		return false
	}
	<-l.ended
	return true
}
