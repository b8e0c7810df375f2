package api

import (
	"fmt"
	"net/http"

	"packhouse/repo"
)

// loginError is why the sender of a request is refused whose client certificate the handshake has accepted.
type loginError struct {
	status int
	text   string
}

func (e *loginError) Error() string { return e.text }

func forbidden(format string, args ...any) error {
	return &loginError{http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// What may become of a certificate after the handshake. Another connection needs another certificate.
var (
	errCertificateExpired   error = &loginError{http.StatusUnauthorized, "the client certificate, or that of its authority, has expired"}
	errCertificateUntrusted error = &loginError{http.StatusUnauthorized, "the client certificate is not of an authority that this server accepts any more"}
)

// holder returns the user whose certificate the client of a request has proven to have. ok is false without a certificate. The
// error is a *loginError.
func (a *Auth) holder(r *http.Request) (user repo.Principal, ok bool, err error) {
	if a.clients == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return user, false, nil
	}
	connection, _ := r.Context().Value(connectionKey).(*connectionOf)
	var proven provenName
	if connection != nil {
		proven = connection.proven
	}
	if proven, err = a.clients.prove(proven, r.TLS, a.now()); err != nil {
		return user, false, err
	}
	if connection != nil {
		connection.proven = proven
	}
	if user, ok = a.named[proven.name]; !ok {
		return user, false, forbidden("the client certificate is of %.100q, who is no user of this server", proven.name)
	}
	return user, true, nil
}
