package stdio

import (
	"net/http"
	"strings"
)

// Absence is why there is no repository in a directory. While there is none, and no connection to a holder was needed, the pipe
// answers by itself: no holder is started, and nothing is made in or around the directory until a client creates a repository.
type Absence struct {
	Directory bool   // there is a directory
	Foreign   string // what is there instead of a repository, one line; "": nothing
	Config    bool   // a file named config is among that: BorgBackup 1 has one, and the client looks for it
}

// needsHolder tells whether a request has to go to a holder although there is no repository: it may create one.
func (p *pipe) needsHolder(r *request, a *Absence) bool { return r.creates() && a.Foreign == "" }

// creates tells whether a request may create a repository.
func (r *request) creates() bool {
	command, certain := r.command()
	return r.method == http.MethodPost && (command == "create" || !certain)
}

// absent answers a request for a repository that does not exist, as the reference does.
//
// A client that opens a repository loads from config/ first. 404 says that there is none in the directory. The client of an open
// repository, whose connection broke while its volume was unmounted, must not take that for an object, or a list, that is gone.
// So 404 is only for those that have begun with config/, and the others are told that there is no repository.
func (p *pipe) absent(r *request, a *Absence) error {
	const notCached = "Cache-Control: no-store, no-cache, must-revalidate, max-age=0" // as all answers of the dialect
	name, _, _ := strings.Cut(strings.TrimPrefix(r.target, "/"), "?")
	isList := name == "" || strings.HasSuffix(name, "/")
	reads := r.method == http.MethodGet || r.method == http.MethodHead
	opens := a.Directory && reads && !isList && strings.HasPrefix(name, "config/")
	p.opening = p.opening || opens
	withBody := r.method != http.MethodHead
	switch {
	case r.method == http.MethodHead && name == "config" && a.Config:
		return answer(p.out, withBody, http.StatusOK, "", notCached, "X-BorgStore-Is-Directory: false")
	case opens, p.opening && a.Directory && (isList && reads || r.method == http.MethodHead):
		return answer(p.out, withBody, http.StatusNotFound, name, notCached)
	case a.Foreign != "" && (a.Directory || r.creates()):
		return answer(p.out, withBody, http.StatusConflict, "not a Packhouse repository: "+a.Foreign, notCached)
	}
	return answer(p.out, withBody, http.StatusGone, "repository does not exist; create it first", notCached)
}
