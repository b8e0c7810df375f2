package api

import (
	"net/http"
	"strconv"

	"packhouse/repo"
)

// Trusted is the server for requests whose sender is known by the way they come: a socket that only this
// user can open, or the program itself. They need no credentials, and these headers count:
//
//	X-Packhouse-Repository   the repository; the path is then all its own. Absent: the path names it
//	X-Packhouse-Principal    the name for the log; default "local"
//	X-Packhouse-Permissions  as repo.ParsePermissions reads it; absent: everything
//	X-Packhouse-Quota        bytes, stored with the repository when it differs; negative: none. Absent: as it is
//
// A process that speaks for one client (stdio) sends them on each request. On all other listeners they
// mean nothing.
func (s *Server) Trusted() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, true) })
}

// admitTrusted takes the sender from the headers of the trusted side.
func (s *Server) admitTrusted(w http.ResponseWriter, r *http.Request, x *exchange) bool {
	permissions, err := repo.ParsePermissions(r.Header.Get("X-Packhouse-Permissions"))
	if err != nil {
		x.log.Reason = err.Error()
		WriteText(w, r, http.StatusBadRequest, "X-Packhouse-Permissions: "+err.Error())
		return false
	}
	x.principal = repo.Principal{Name: r.Header.Get("X-Packhouse-Principal"), Permissions: permissions}
	if x.principal.Name == "" {
		x.principal.Name = "local"
	}
	s.known(r)
	return true
}

// applyQuota stores the limit that a trusted process asked for with the repository, if there is one yet.
func (s *Server) applyQuota(w http.ResponseWriter, r *http.Request, x *exchange) bool {
	text := r.Header.Get("X-Packhouse-Quota")
	if text == "" {
		return true
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		WriteText(w, r, http.StatusBadRequest, "X-Packhouse-Quota must be a number of bytes")
		return false
	}
	repository, err := s.o.Set.Get(r.Context(), x.name)
	if err != nil {
		return true // the dialect will say so, in its own words
	}
	if has := repository.Usage().Limit; has == limit || has < 0 && limit < 0 {
		return true
	}
	if err := repository.SetQuota(r.Context(), limit); err != nil {
		x.log.Reason = err.Error()
		WriteText(w, r, http.StatusInternalServerError, InternalError)
		return false
	}
	return true
}
