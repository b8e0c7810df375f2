package api

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"packhouse/repo/keys"
)

// splitTarget takes a request target apart as the client spelled it: the path is not decoded and not
// cleaned, scheme and host of the absolute form and a fragment are dropped.
func splitTarget(target string) (path, query string) {
	target, _, _ = strings.Cut(target, "#")
	path, query, _ = strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		if _, rest, ok := strings.Cut(path, "://"); ok {
			path = ""
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				path = rest[i:]
			}
		}
	}
	return path, query
}

// SplitPath splits the raw path of a request to a server of many repositories: "/name/rest" into the repository and the rest with
// its slash. Several slashes at the beginning count as one.
func SplitPath(path string) (name, rest string) {
	path = strings.TrimLeft(path, "/")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// Reserved reports whether the first segment of a path belongs to the repository mounted at "/", if there is one: names that
// clients of V'Ger, vykar and borg use as the first part of keys. All other first segments are names of repositories. A
// repository with a reserved name cannot be reached while another one is mounted at "/". Source: vger-rest, 1.4;
// borgstore-rest, 7.4.
func Reserved(segment string) bool {
	switch segment {
	case "config", "index", "index.gen", "manifest", "keys", "snapshots", "packs", "locks", "sessions", "pending_index",
		"health", "archives", "cache", "data":
		return true
	}
	return keys.VGerTemporary(segment)
}

// AdminPath is the path of the administration API for a repository, "" for the server as a whole or its only repository.
func AdminPath(name, rest string) string {
	if name == "" {
		return "/-/" + rest
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return "/" + strings.Join(parts, "/") + "/-/" + rest
}

// SplitAdminPath splits the path of a request to the administration API: "/NAME/-/rest", or "/-/rest" of the server as a whole (name ""). The
// name may have two parts, and be escaped as in URLs. What follows needs no escapes, and may have none.
func SplitAdminPath(path string) (name, rest string, ok bool) {
	if rest, ok := strings.CutPrefix(path, "/-/"); ok {
		return "", rest, !strings.Contains(rest, "%")
	}
	raw, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/-/")
	if !ok || strings.Count(raw, "/") > 1 || strings.Contains(rest, "%") {
		return "", "", false
	}
	name, err := url.PathUnescape(raw)
	return name, rest, err == nil
}

// administers tells of which repository a path asks the administration API.
func (s *Server) administers(path string) (name string, ok bool) {
	name, _, ok = SplitAdminPath(path)
	if first, _, _ := strings.Cut(name, "/"); !ok || name == "" || s.o.Set.Single() || s.o.Root != "" && Reserved(first) {
		return "", false
	}
	return name, true
}

// locate finds the repository of a path and what follows it.
func (s *Server) locate(d Dialect, r *http.Request, path, query string) (name, rest string) {
	if s.o.Set.Single() {
		return "", path
	}
	if namer, ok := d.(Namer); ok {
		name, rest, _ = namer.Locate(path)
		return cmp.Or(name, s.o.Root), rest
	}
	name, rest = SplitPath(path)
	switch {
	case s.o.Root == "":
		return name, rest
	case name == "" && readOnly(r) && !ownsPath(d, r) && !asksRepository(query):
		// Where many repositories are served, the bare root is for the server: V'Ger's list of them.
		return "", path
	case name == "" || Reserved(name):
		return s.o.Root, path
	}
	return name, rest
}

// asksRepository tells whether a GET or HEAD of "/" is meant for the repository mounted there. Source:
// vger-rest, 1.4.
func asksRepository(query string) bool {
	for parameter := range strings.SplitSeq(query, "&") {
		switch key, _, _ := strings.Cut(parameter, "="); key {
		case "list", "stats", "verify-structure":
			return true
		}
	}
	return false
}

// dialect is who serves a request, by its headers.
func (s *Server) dialect(r *http.Request) Dialect {
	for _, d := range s.o.Dialects {
		if d.Claims(r) {
			return d
		}
	}
	return s.o.Dialects[len(s.o.Dialects)-1]
}

// remembered looks who serves an authenticated request that no dialect has claimed: the dialect whose clients created the repository.
func (s *Server) remembered(r *http.Request, x *requestState) {
	if x.trusted || s.o.Set.Single() || x.dialect.Name() != s.o.Dialects[len(s.o.Dialects)-1].Name() {
		return
	}
	path, _ := splitTarget(r.RequestURI)
	for _, d := range s.o.Dialects {
		namer, ok := d.(Namer)
		if !ok {
			continue
		}
		name, rest, ok := namer.Locate(path)
		if name = cmp.Or(name, s.o.Root); !ok || name == "" || s.authorized(r, x, name).MayEnter() != nil {
			continue
		}
		if repository, err := s.o.Set.Get(r.Context(), name); err == nil && repository.Dialect() == d.Name() {
			x.dialect, x.name, x.rest = d, name, rest
			return
		}
	}
}

// serverPath tells whether a path is the server's own rather than a repository's. Only paths without
// percent-encoding can be.
func serverPath(d Dialect, r *http.Request) bool {
	path, _ := splitTarget(r.RequestURI)
	return !ownsPath(d, r) && !strings.Contains(path, "%")
}

func ownsPath(d Dialect, r *http.Request) bool {
	owner, ok := d.(PathOwner)
	return ok && owner.OwnsPath(r)
}
