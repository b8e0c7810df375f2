package api

import (
	"fmt"
	"net/http"
	"regexp"

	"packhouse/repo"
)

// NamelessError is an ErrInvalid: the path of a client's URL contains no repository name, and the server has many repositories.
type NamelessError struct{ URL string } // as it should be

func (e *NamelessError) Error() string {
	return fmt.Sprintf("the URL names no repository: it should look like %s", e.URL)
}

func (e *NamelessError) Is(target error) bool { return target == repo.ErrInvalid }

// Nameless returns the error for a request, with the scheme and the host that its client uses.
func Nameless(r *http.Request) *NamelessError {
	scheme, host := "http", r.Host
	if x := stateOf(r); r.TLS != nil || x != nil && x.secure {
		scheme = "https"
	}
	if len(host) > 255 || !plainHost.MatchString(host) {
		host = "HOST"
	}
	return &NamelessError{scheme + "://" + host + "/NAME"}
}

// plainHost is a name or an address, with or without a port.
var plainHost = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)
