package restic_test

import (
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/api/restic"
	"packhouse/repo/datadir"
)

// TestLocate: names of repositories in paths. Source: restic-rest 3.1.
func TestLocate(t *testing.T) {
	d := restic.New(restic.Options{})
	hex := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		path, name, rest string
		ok               bool
	}{
		{"/", "", "/", false},
		{"/config", "", "/config", true},
		{"/data/", "", "/data/", true},
		{"/data/" + hex, "", "/data/" + hex, true},
		{"/a/", "a", "/", false},
		{"/a", "a", "", false},
		{"/a/config", "a", "/config", true},
		{"/a/b/", "a/b", "/", false},
		{"/a/b/keys/" + hex, "a/b", "/keys/" + hex, true},
		{"/a%2Fb/keys/", "a/b", "/keys/", true},
		{"/a/data/", "a", "/data/", true},
		{"/a/b/c/", "a/b", "/c/", false},
		{"/m%C3%BC ller/x/locks/", "mü ller/x", "/locks/", true},
		{"//a///b//keys/", "a/b", "/keys/", true},
		{"/a/./keys/", "", "/a/./keys/", false},
		{"/a/%2e%2e/keys/", "", "/a/%2e%2e/keys/", false},
		{"/%zz/", "", "/%zz/", false},
		{"", "", "", false},
	} {
		name, rest, ok := d.Locate(tt.path)
		if name != tt.name || rest != tt.rest || ok != tt.ok {
			t.Errorf("%q: got %q, %q, %v; want %q, %q, %v", tt.path, name, rest, ok, tt.name, tt.rest, tt.ok)
		}
	}
}

// FuzzLocate: no path leads out of the two levels, and what is a name is one part or two.
func FuzzLocate(f *testing.F) {
	for _, path := range []string{"/", "/a/b/config", "/a%2fb/data/", "//", "/..%2f../config", "/a/%00/keys/"} {
		f.Add(path)
	}
	d := restic.New(restic.Options{})
	f.Fuzz(func(t *testing.T, path string) {
		name, rest, ok := d.Locate(path)
		if !ok {
			return
		}
		for part := range strings.SplitSeq(name, "/") {
			if name != "" && (part == "" || part == "." || part == ".." || part == "config" || part == "data") {
				t.Errorf("%q: name %q", path, name)
			}
		}
		if strings.Count(name, "/") > 1 || !strings.HasPrefix(rest, "/") {
			t.Errorf("%q: name %q, rest %q", path, name, rest)
		}
	})
}

// TestDialectsAtOneAddress: restic's requests without its media type reach the repositories that its clients created, and no others.
func TestDialectsAtOneAddress(t *testing.T) {
	w := start(t, api.Options{Root: "top"}, datadir.Options{})
	w.create("r")
	w.create("alice/laptop")
	path := w.store("all", "alice/laptop", "keys", "key")
	// rustic names the media type in listings only; unclaimed requests are V'Ger's where nothing else is known.
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", path, 200},
		{"HEAD", path, 200},
		{"GET", "/alice/laptop/keys/", 200},
		{"DELETE", path, 200},
		{"GET", path, 404},
	} {
		if a := w.send("all", tt.method, tt.path, nil); a.StatusCode != tt.want {
			t.Errorf("%s %s without Accept: %s %q, want %d", tt.method, tt.path, a.Status, a.body, tt.want)
		}
	}
	if a := w.send("none", "GET", "/r/config", nil); a.StatusCode != 403 {
		t.Errorf("by one without a permission: %s %q", a.Status, a.body)
	}
	if a := w.send("all", "PUT", "/v/config", strings.NewReader("x")); a.StatusCode != 201 {
		t.Fatalf("create a repository of V'Ger: %s %q", a.Status, a.body)
	}
	if a := w.send("all", "GET", "/v/config", nil); a.StatusCode != 200 || a.body != "x" {
		t.Errorf("a repository of V'Ger: %s %q", a.Status, a.body)
	}
	for _, path := range []string{"/v/config", "/v/snapshots/"} {
		if a := w.want(403, "all", "GET", path, ""); !strings.Contains(a.body, "vger") {
			t.Errorf("of restic, at a repository of V'Ger: %q", a.body)
		}
	}
	if a := w.send("all", "POST", "/v/?create=true", nil); a.StatusCode != 403 {
		t.Errorf("create over another dialect's: %s %q", a.Status, a.body)
	}
	if a := w.send("all", "POST", "/?create=true", nil); a.StatusCode != 200 {
		t.Fatalf("create the one at the root: %s %q", a.Status, a.body)
	}
	w.want(200, "all", "POST", "/config", "at the root")
	if a := w.send("all", "GET", "/config", nil); a.StatusCode != 200 || a.body != "at the root" {
		t.Errorf("at the root, without Accept: %s %q", a.Status, a.body)
	}
	w.want(200, "all", "GET", "/top/config", "")
}

// TestRequestsOfOthers: repositories of restic take nothing from V'Ger's clients at the same address: neither one at the root the list of all, nor one
// of two parts a directory of the repository that has the name of the first.
func TestRequestsOfOthers(t *testing.T) {
	w := start(t, api.Options{Root: "top"}, datadir.Options{})
	w.create("top")
	if a := w.send("all", "PUT", "/v/config", strings.NewReader("x")); a.StatusCode != 201 {
		t.Fatalf("create a repository of V'Ger: %s %q", a.Status, a.body)
	}
	paths := []string{"/", "/v/?list", "/v/packs/?list", "/v/sessions/?list"}
	before := make(map[string]string)
	for _, path := range paths {
		if a := w.send("all", "GET", path, nil); a.StatusCode == 200 {
			before[path] = a.body
		} else {
			t.Errorf("%s: %s %q", path, a.Status, a.body)
		}
	}
	w.create("v/packs")
	w.create("v/sessions")
	for _, path := range paths[1:] {
		if a := w.send("all", "GET", path, nil); a.StatusCode != 200 || a.body != before[path] {
			t.Errorf("%s beside a repository of restic: %s %q, want %q", path, a.Status, a.body, before[path])
		}
	}
	if a := w.send("all", "GET", "/top/", nil); a.StatusCode != 403 && a.StatusCode != 409 || !strings.Contains(a.body, "restic") {
		t.Errorf("a repository of restic as a whole, for V'Ger: %s %q", a.Status, a.body)
	}
}
