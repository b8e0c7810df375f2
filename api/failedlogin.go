package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// maxLogin is how many bytes of a name that failed the log has.
const maxLogin = 64

// failedLogin counts a login that failed, and has the name that was tried logged. The name is for the log alone, and no label of a metric: strangers choose
// it, and people type passwords there. A request without credentials has tried none, as clients send one to be asked for them.
func (s *Server) failedLogin(r *http.Request, x *requestState, err error) {
	if errors.Is(err, errNoCredentials) || errors.Is(err, errQueueFull) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	s.failedLogins.Add(1)
	if name, _, basic, ok := credentials(r.Header.Get("Authorization")); ok && basic {
		x.login = loginText(name)
	}
}

// loginText is a name in printable characters, cut.
func loginText(name string) string {
	cut := name
	if len(cut) > maxLogin {
		cut = strings.ToValidUTF8(cut[:maxLogin], "")
	}
	text := strconv.Quote(cut)
	text = text[1 : len(text)-1]
	if len(cut) < len(name) {
		text += "…"
	}
	return text
}

// FailedLogins is how many logins have failed since the start.
func (s *Server) FailedLogins() int64 { return s.failedLogins.Load() }
