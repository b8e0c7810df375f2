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
		{"/", "", "/", true},
		{"/config", "", "/config", true},
		{"/data/", "", "/data/", true},
		{"/data/" + hex, "", "/data/" + hex, true},
		{"/a/", "a", "/", true},
		{"/a", "a", "", false},
		{"/a/config", "a", "/config", true},
		{"/a/b/", "a/b", "/", true},
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
