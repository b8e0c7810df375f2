package api

import (
	"net/http"
	"strconv"

	"packhouse/repo"
	"packhouse/repo/policy"
)

// The headers that Trusted reads.
const (
	headerRepository  = "X-Packhouse-Repository"
	headerPrincipal   = "X-Packhouse-Principal"
	headerPermissions = "X-Packhouse-Permissions"
	headerQuota       = "X-Packhouse-Quota"
)

// TrustedHeader returns the header of a request to Trusted: for a repository ("": the only one), by the principal p, whose Ceiling
// is the limit (nil: none).
func TrustedHeader(repository string, p repo.Principal) http.Header {
	h := http.Header{headerRepository: {repository}, headerPrincipal: {p.Name}}
	if p.Permissions != nil {
		h.Set(headerPermissions, p.Permissions.String())
	}
	if p.Ceiling != nil {
		h.Set(headerQuota, strconv.FormatInt(*p.Ceiling, 10))
	}
	return h
}

// Trusted is the server for requests that need no credentials, because of how they arrive: over a socket that only this user can
// open, or from the program itself. It reads these headers:
//
//	X-Packhouse-Repository   the repository; then the path contains no name. Absent: the path names it
//	X-Packhouse-Principal    the name for the log; default "local"
//	X-Packhouse-Permissions  as policy.Parse reads it; absent: everything
//	X-Packhouse-Quota        bytes, an additional limit for this request; negative or absent: none
//
// A process that serves one client over stdio sends them with each request. All other listeners ignore them. The limit is not
// stored: two clients with different limits, or an administrator who has set another one, would otherwise overwrite it in turn.
func (s *Server) Trusted() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, true) })
}

// admitTrusted takes the sender from the headers of the trusted side.
func (s *Server) admitTrusted(w http.ResponseWriter, r *http.Request, x *requestState) bool {
	permissions, err := policy.Parse(r.Header.Get(headerPermissions))
	if err != nil {
		x.log.Reason = err.Error()
		WriteText(w, r, http.StatusBadRequest, headerPermissions+": "+err.Error())
		return false
	}
	x.principal = repo.Principal{Name: r.Header.Get(headerPrincipal), Permissions: permissions}
	if x.principal.Name == "" {
		x.principal.Name = "local"
	}
	if text := r.Header.Get(headerQuota); text != "" {
		limit, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			x.log.Reason = err.Error()
			WriteText(w, r, http.StatusBadRequest, headerQuota+" must be a number of bytes")
			return false
		}
		if limit >= 0 {
			x.principal.Ceiling = &limit
		}
	}
	s.known(r)
	return true
}
