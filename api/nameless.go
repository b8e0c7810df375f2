package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// NamelessError is an ErrInvalid: the path of a client's URL contains no repository name, and the server has many repositories.
type NamelessError struct{ URL string } // as it should be

func (e *NamelessError) Error() string {
	return fmt.Sprintf("the URL names no repository: it should look like %s", e.URL)
}

func (e *NamelessError) Is(target error) bool { return target == repo.ErrInvalid }

// Nameless returns the error for a request, with the scheme and the host that its client uses.
func Nameless(r *http.Request) *NamelessError { return &NamelessError{serverURL(r) + "/NAME"} }

// NestedError is an ErrInvalid: the path of a client's URL has more than the name of a repository. What the client stored would become
// items of another repository, under keys that are not those of its protocol.
type NestedError struct{ URL string } // as it could be

func (e *NestedError) Error() string {
	return fmt.Sprintf("a repository's URL has one name, without further slashes: it should look like %s", e.URL)
}

func (e *NestedError) Is(target error) bool { return target == repo.ErrInvalid }

// Nested returns the error for a request whose client has a URL with this path.
func Nested(r *http.Request, path string) *NestedError {
	name := strings.Join(strings.FieldsFunc(path, func(c rune) bool { return c == '/' }), "-")
	if datadir.CheckName(name) != nil || layout.DirName(name) != name { // else it would have to be escaped
		name = "NAME"
	}
	return &NestedError{serverURL(r) + "/" + name}
}

// serverURL is that of the server as the client of a request has it, without a slash at its end.
func serverURL(r *http.Request) string {
	scheme, host := "http", r.Host
	if x := stateOf(r); r.TLS != nil || x != nil && x.secure {
		scheme = "https"
	}
	if len(host) > 255 || !plainHost.MatchString(host) {
		host = "HOST"
	}
	return scheme + "://" + host
}

// plainHost is a name or an address, with or without a port.
var plainHost = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)
