package api

import (
	"net/http"
	"strings"
)

// isUI tells whether a path belongs to the pages for people.
func isUI(path string) bool { return path == "/-/ui" || strings.HasPrefix(path, "/-/ui/") }

// maxForm is the most bytes of a form that the pages for people send.
const maxForm = 1 << 20

// serveUI gives a request to the pages for people, which ask for credentials themselves: a browser shows its own form for a 401, and keeps
// what is entered there until it is closed.
func (s *Server) serveUI(w http.ResponseWriter, r *http.Request, x *requestState) {
	x.dialect, x.log.Operation = nil, "ui"
	x.log.Reads = true // what is changed is changed by requests of its own to the API
	if b, ok := r.Body.(*body); ok {
		b.limit = maxForm
	}
	s.o.UI.ServeHTTP(w, r)
}

// asksWho tells whether a request is that of a browser in whose address bar the server's address was entered: "/", without credentials, and
// for a text to read. Clients ask otherwise: the media types of borgstore and restic are their own, and V'Ger's clients want no HTML.
func asksWho(r *http.Request, path, query string) bool {
	return readOnly(r) && path == "/" && query == "" && r.Header.Get("Authorization") == "" && wantsHTML(r.Header.Values("Accept"))
}

// wantsHTML tells whether text/html is among the media types that are asked for, and none of a protocol.
func wantsHTML(accept []string) bool {
	html := false
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, parameters, _ := strings.Cut(strings.ToLower(part), ";")
		kind = strings.TrimSpace(kind)
		if strings.HasPrefix(kind, "application/vnd.") {
			return false
		}
		if kind == "text/html" && strings.ReplaceAll(parameters, " ", "") != "q=0" {
			html = true
		}
	}
	return html
}

// Secure tells whether the client of a request asked by TLS, here or at a trusted proxy.
func Secure(r *http.Request) bool {
	x := stateOf(r)
	return r.TLS != nil || x != nil && x.secure
}
