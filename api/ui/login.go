package ui

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"

	"packhouse/api"
	"packhouse/api/client"
)

// cookieOf returns the name of the cookie of a session, and the path that it is for. By TLS it has the prefix with which browsers accept it only
// by TLS, from this very host, and for all of its paths: so neither a page without TLS nor another host of the domain can give a browser a
// session of its choice. Without TLS it has no path, and so it is for those below Root, wherever a proxy has put that.
func cookieOf(r *http.Request) (name, path string) {
	if api.Secure(r) {
		return "__Host-" + cookieName, "/"
	}
	return cookieName, ""
}

// sessionOf is that of the cookie of a request; nil: there is none.
func (h *Handler) sessionOf(r *http.Request) *session {
	name, _ := cookieOf(r)
	cookie, err := r.Cookie(name)
	if err != nil {
		return nil
	}
	return h.sessions.find(cookie.Value)
}

// endSession ends that of a request, and removes its cookie.
func (h *Handler) endSession(w http.ResponseWriter, r *http.Request) {
	name, _ := cookieOf(r)
	if cookie, err := r.Cookie(name); err == nil {
		h.sessions.end(cookie.Value)
	}
	h.setCookie(w, r, "", -1)
}

// setCookie sends the cookie of a session, which ends with the browser. maxAge negative: it is removed.
func (h *Handler) setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	name, path := cookieOf(r)
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: api.Secure(r),
	})
}

// loginForm is what the page of that name shows.
type loginForm struct {
	Text    string // why it is shown
	Next    string // the page that was asked for
	User    string
	Vouched bool // somebody else may have proved who it is
	Plain   bool // what is entered can be read on its way
}

func (h *Handler) showLogin(w http.ResponseWriter, r *http.Request, status int, text string) {
	next := r.FormValue("next")
	if r.Method == http.MethodGet && r.URL.Path != Root+"login" {
		next = r.URL.RequestURI()
	}
	h.show(w, r, nil, status, "login", "Log in", loginForm{
		Text: text, Next: localPage(next), User: r.PostFormValue("user"), Vouched: h.vouched(r),
		Plain: !api.Secure(r) && !nearby(r),
	})
}

// vouched tells whether a request says who sends it without credentials: by a certificate, or by a header of a proxy. The API finds out
// whether that is so.
func (h *Handler) vouched(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 || r.Header.Get(h.o.ProxyHeader()) != ""
}

// voucher is by what a request says who sends it, if it does: a session that began so is for requests that say the same.
func (h *Handler) voucher(r *http.Request) [sha256.Size]byte {
	hash := sha256.New()
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		_, _ = hash.Write(r.TLS.PeerCertificates[0].Raw) // it never fails
	}
	_, _ = io.WriteString(hash, strings.Join(r.Header.Values(h.o.ProxyHeader()), "\n"))
	return [sha256.Size]byte(hash.Sum(nil))
}

// nearby tells whether the browser and the server are on one machine, as far as the address that was entered says.
func nearby(r *http.Request) bool {
	host := r.Host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return host == "localhost" || host == "[::1]" || strings.HasPrefix(host, "127.")
}

// localPage is a path of ours, or the first page: nobody is to be sent elsewhere by a link to the login form.
func localPage(path string) string {
	if page, _, _ := strings.Cut(path, "?"); strings.Contains(page, "//") || !strings.HasPrefix(path, Root) || strings.ContainsAny(path, "\\\r\n") || strings.HasPrefix(path, Root+"login") {
		return Root
	}
	return path
}

// loginFirst answers a request without a session: pages can be asked for again after a login, forms are not kept.
func (h *Handler) loginFirst(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		h.showLogin(w, r, http.StatusForbidden, "Nothing was changed: there is no session any more. It ended because it was not used for 30 minutes, because 12 hours were over, "+
			"or because the server was restarted. Log in, and repeat the step.")
	case r.URL.Path == Root:
		h.showLogin(w, r, http.StatusOK, "")
	default:
		h.showLogin(w, r, http.StatusOK, "Log in to see this page.")
	}
}

func (h *Handler) loginPage(w http.ResponseWriter, r *http.Request) {
	next := localPage(r.FormValue("next"))
	text := ""
	if r.FormValue("check") != "" {
		if h.sessionOf(r) != nil {
			redirect(w, r, strings.TrimPrefix(next, Root))
			return
		}
		text = "The browser has not sent back the cookie of the session. Allow cookies for this site, and log in again."
	}
	h.showLogin(w, r, http.StatusOK, text)
}

// login begins a session with credentials that the API accepts.
func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	user, secret := strings.TrimSpace(r.PostFormValue("user")), r.PostFormValue("secret")
	authorization := ""
	switch {
	case strings.ContainsFunc(user+secret, func(c rune) bool { return c < ' ' || c == 0x7f }):
		h.showLogin(w, r, http.StatusBadRequest, "Names and secrets have no control characters.")
		return
	case user != "":
		authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret))
	case secret != "":
		authorization = "Bearer " + strings.TrimSpace(secret)
	case !h.vouched(r):
		h.showLogin(w, r, http.StatusBadRequest, "Enter a token, or a user and a password.")
		return
	}
	sender := h.senderOf(r, authorization)
	self, err := h.client(sender).Self(r.Context())
	if err != nil {
		api.RecordFrom(r.Context()).Reason = err.Error()
		switch {
		case client.Refused(err, http.StatusUnauthorized):
			h.showLogin(w, r, http.StatusUnauthorized, "The server does not know these credentials. "+sentence(err.Error()))
		case client.Refused(err, http.StatusTooManyRequests):
			h.showLogin(w, r, http.StatusTooManyRequests, sentence(err.Error()))
		default:
			h.showLogin(w, r, http.StatusForbidden, sentence(err.Error()))
		}
		return
	}
	name, _ := cookieOf(r)
	if cookie, err := r.Cookie(name); err == nil {
		h.sessions.end(cookie.Value) // the one before, so that no cookie of another login counts after this
	}
	s := &session{sender: sender, name: self.Name, vouched: h.voucher(r)}
	s.server.Store(self.Administrates)
	h.setCookie(w, r, h.sessions.begin(s), 0)
	redirect(w, r, link("login", "check", "1", "next", localPage(r.PostFormValue("next"))))
}

func (v *visit) logout() error {
	v.h.endSession(v.w, v.r)
	v.h.show(v.w, v.r, nil, http.StatusOK, "login", "Logged out", loginForm{Text: "You have logged out.", Next: Root, Plain: !api.Secure(v.r) && !nearby(v.r)})
	return nil
}
