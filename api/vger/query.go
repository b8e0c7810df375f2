package vger

import (
	"net/url"
	"strings"
)

// parameters are the query parameters of a request that this protocol knows. Only their
// presence counts; unknown ones are ignored.
type parameters map[string]bool

var known = map[string]bool{
	"list": true, "stats": true, "verify-structure": true, // GET
	"init": true, "batch-delete": true, "cleanup-dirs": true, "repack": true, "verify-packs": true, // POST on the repository
	"mkdir": true, // POST on a key
}

// parseQuery finds the known parameters. The same one twice is an error.
func parseQuery(raw string) (parameters, error) {
	var found parameters
	for raw != "" {
		var field string
		field, raw, _ = strings.Cut(raw, "&")
		name, _, _ := strings.Cut(field, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !known[name] {
			continue
		}
		if found[name] {
			return nil, badRequest("query parameter given twice: %s", name)
		}
		if found == nil {
			found = make(parameters)
		}
		found[name] = true
	}
	return found, nil
}

// first returns the first of names that is present, by the precedence of the caller, or "".
func (p parameters) first(names ...string) string {
	for _, name := range names {
		if p[name] {
			return name
		}
	}
	return ""
}
