package restic

import (
	"net/url"
	"strings"

	"packhouse/repo/keys"
)

// split takes the raw path of a request apart: into the name of the repository, which has up to two parts ("": the one at the root), and
// what follows it with its slash. Names end where a word of the protocol begins. The path is decoded first, so that an escaped slash separates
// like any other. ok is false for a path that is not of the protocol. Source: restic-rest 3.1.
func split(raw string) (name, rest string, ok bool) {
	path, err := url.PathUnescape(raw)
	if err != nil || !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
		return "", raw, false
	}
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "":
			continue
		case ".", "..":
			return "", raw, false
		}
		parts = append(parts, part)
	}
	folders := 0
	for folders < min(len(parts), 2) && !keys.ResticReserved(parts[folders]) {
		folders++
	}
	rest = strings.Join(parts[folders:], "/")
	if rest != "" {
		rest = "/" + rest
	}
	if strings.HasSuffix(path, "/") {
		rest += "/"
	}
	return strings.Join(parts[:folders], "/"), rest, true
}

// shape is what a path within a repository names.
type shape int

const (
	invalid    shape = iota
	repository       // "/"
	config           // "/config"
	list             // "/data/"
	object           // "/data/{id}"
)

// resource is what a request is about.
type resource struct {
	shape shape
	key   string // of config or an object; of a list: the directory
}

// parse reads what follows the name of a repository in a path, as split returns it.
func parse(rest string) resource {
	switch rest {
	case "/":
		return resource{shape: repository}
	case "/config":
		return resource{config, "config"}
	}
	kind, id, found := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	switch {
	case !found, !keys.ResticType(kind):
	case id == "":
		return resource{list, kind}
	case keys.ResticID(id):
		return resource{object, kind + "/" + id}
	}
	return resource{}
}

// kind is the type of an object or of a list.
func (r resource) kind() string {
	kind, _, _ := strings.Cut(r.key, "/")
	return kind
}
