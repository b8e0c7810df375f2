package restic_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/repo/datadir"
)

// TestRequests goes through the requests of the protocol in their order. Source: restic-rest 2.2, where the deliberate differences are named in the
// package's comment.
func TestRequests(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	const content, other = "some bytes", "other bytes"
	pack := "/r/data/" + id(content)
	for _, step := range []struct {
		method, path, body string
		want               int
	}{
		{"HEAD", "/r/config", "", 404},
		{"GET", "/r/keys/", "", 404},
		{"POST", pack, content, 404}, // a repository begins with its creation
		{"DELETE", pack, "", 404},
		{"POST", "/r/?create=TRUE", "", 400},
		{"POST", "/r/", "", 400},
		{"POST", "/r?create=true", "", 404},
		{"GET", "/r/", "", 405},
		{"DELETE", "/r/", "", 405},
		{"POST", "/r/?create=true", "", 200},
		{"POST", "/r/?create=true", "", 200},
		{"HEAD", "/r/config", "", 404},
		{"POST", "/r/config", "config", 200},
		{"POST", "/r/config", "config", 200},
		{"POST", "/r/config", "another", 403},
		{"GET", "/r/config", "", 200},
		{"PUT", "/r/config", "config", 405},
		{"GET", "/r/config/", "", 404},
		{"GET", "/r/config/x", "", 404},
		{"POST", pack, content, 200},
		{"POST", pack, content, 200},
		{"POST", pack, other, 403},
		{"POST", pack, "Some bytes", 400},
		{"POST", "/r/data/" + id("third"), other, 400},
		{"POST", "/r/data/" + id("empty"), "", 400},
		{"POST", "/r/locks/" + id(""), "", 200},
		{"HEAD", "/r/locks/" + id(""), "", 200},
		{"POST", "/r/data/" + id(strings.Repeat("x", 1<<20+1)), strings.Repeat("x", 1<<20+1), 403},
		{"HEAD", pack, "", 200},
		{"GET", pack, "", 200},
		{"PATCH", pack, "", 405},
		{"GET", "/r/data", "", 404},
		{"GET", "/r/data/", "", 200},
		{"HEAD", "/r/data/", "", 405},
		{"POST", "/r/data/", "", 405},
		{"GET", "/r/data/" + strings.ToUpper(id(content)), "", 404},
		{"GET", "/r/data/" + id(content)[:63], "", 404},
		{"GET", "/r/data/" + id(content) + "0", "", 404},
		{"GET", pack + "/", "", 404},
		{"GET", "/r/data/aa/" + id(content), "", 404},
		{"GET", "/a/b/c/config", "", 404},
		{"POST", "/a/b/c/?create=true", "", 404},
		{"GET", "/r/foo/x", "", 404},
		{"GET", "/r/%2e%2e/keys/", "", 404},
		{"GET", "/x%00y/keys/", "", 404},
		{"GET", "/r%2Fkeys/", "", 200},
		{"GET", "//r//keys/", "", 200},
		{"POST", "/data/?create=true", "", 405},
		{"POST", "/a/data/?create=true", "", 405},
		{"POST", "/?create=true", "", 403}, // no repository is at the root
		{"HEAD", "/config", "", 404},
		{"GET", "/data/", "", 404},
		{"DELETE", pack, "", 200},
		{"DELETE", pack, "", 200},
		{"GET", pack, "", 404},
		{"DELETE", "/r/locks/abc", "", 404},
		{"DELETE", "/r/config", "", 200},
		{"DELETE", "/r/config", "", 200},
		{"POST", "/r/config", "another", 200},
	} {
		a := w.want(step.want, "all", step.method, step.path, step.body)
		if a.StatusCode == 200 && (step.method == "POST" || step.method == "DELETE") && (a.body != "" || a.Header.Get("Content-Length") != "0" || a.Header.Get("Content-Type") != "") {
			t.Errorf("%s %s: got body %q, header %v", step.method, step.path, a.body, a.Header)
		}
		if a.StatusCode >= 400 && step.method != "HEAD" && strings.Contains(a.body, w.Dir) {
			t.Errorf("%s %s: %q names a directory of the server", step.method, step.path, a.body)
		}
	}
}

// TestLists: both versions, with nothing, a few and many objects.
func TestLists(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	w.create("alice/laptop")
	type entry struct {
		Name string `json:"name"`
		Size int    `json:"size"`
	}
	want := map[string]int{}
	for _, many := range []int{0, 1, 2, 1200} {
		for len(want) < many {
			content := fmt.Sprint("content ", len(want))
			w.store("all", "alice/laptop", "index", content)
			want[id(content)] = len(content)
		}
		var v2 []entry
		a := w.want(200, "all", "GET", "/alice/laptop/index/", "", "Accept-Encoding", "gzip")
		if got := a.Header["Content-Type"]; len(got) != 1 || got[0] != "application/vnd.x.restic.rest.v2" {
			t.Errorf("content type of version 2: %q", got)
		}
		if err := json.Unmarshal([]byte(a.body), &v2); err != nil || v2 == nil {
			t.Fatalf("%d objects: %v in %.200q", many, err, a.body)
		}
		got := map[string]int{}
		for _, e := range v2 {
			got[e.Name] = e.Size
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || len(v2) != many {
			t.Errorf("%d objects: %d listed: %.200s", many, len(v2), a.body)
		}
		for _, accept := range []string{"application/vnd.x.restic.rest.v1", "application/vnd.x.restic.rest.v3", ""} {
			var v1 []string
			a := w.send("all", "GET", "/alice/laptop/index/", nil, "Accept", accept)
			if got := a.Header["Content-Type"]; a.StatusCode != 200 || len(got) != 1 || got[0] != "application/vnd.x.restic.rest.v1" {
				t.Errorf("Accept %q: %s, content type %q", accept, a.Status, got)
			}
			if err := json.Unmarshal([]byte(a.body), &v1); err != nil || len(v1) != many || v1 == nil {
				t.Errorf("Accept %q, %d objects: %v, %d listed in %.200q", accept, many, err, len(v1), a.body)
			}
		}
	}
	if a := w.want(200, "all", "GET", "/alice/laptop/locks/", ""); a.body != "[]" {
		t.Errorf("an empty listing: %q", a.body)
	}
}

// TestRanges has the forms of a Range of an object of 1000 bytes. Source: restic-rest 2.3.
func TestRanges(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	content := strings.Repeat("0123456789", 100)
	path := w.store("all", "r", "data", content)
	for _, tt := range []struct {
		header       string
		status       int
		contentRange string
		body         string
	}{
		{"bytes=0-9", 206, "bytes 0-9/1000", content[:10]},
		{"bytes=990-", 206, "bytes 990-999/1000", content[990:]},
		{"bytes=0-", 206, "bytes 0-999/1000", content},
		{"bytes=-10", 206, "bytes 990-999/1000", content[990:]},
		{"bytes=-5000", 206, "bytes 0-999/1000", content},
		{"bytes=995-1010", 206, "bytes 995-999/1000", content[995:]},
		{"bytes=0-99999999999999999999", 206, "bytes 0-999/1000", content},
		{"bytes=1000-", 416, "bytes */1000", ""},
		{"bytes=1000-1005", 416, "bytes */1000", ""},
		{"bytes=99999999999999999999-", 416, "bytes */1000", ""},
		{"bytes=5-2", 416, "", ""},
		{"bytes=-0", 416, "", ""},
		{"bytes=-", 416, "", ""},
		{"bytes=abc", 416, "", ""},
		{"items=0-1", 416, "", ""},
		{"bytes=0-1,5-6", 200, "", content},
	} {
		a := w.want(tt.status, "all", "GET", path, "", "Range", tt.header)
		if got := a.Header.Get("Content-Range"); got != tt.contentRange {
			t.Errorf("%s: Content-Range %q, want %q", tt.header, got, tt.contentRange)
		}
		if tt.status < 300 && (a.body != tt.body || a.ContentLength != int64(len(tt.body))) {
			t.Errorf("%s: got %d bytes, Content-Length %d", tt.header, len(a.body), a.ContentLength)
		}
	}
	if a := w.want(200, "all", "HEAD", path, "", "Range", "bytes=0-3"); a.ContentLength != 1000 {
		t.Errorf("HEAD: Content-Length %d", a.ContentLength)
	}
	w.want(200, "all", "POST", "/r/config", "0123456789")
	if a := w.want(200, "all", "GET", "/r/config", "", "Range", "bytes=0-3"); a.body != "0123456789" {
		t.Errorf("a range of config: %q", a.body)
	}
	empty := w.store("all", "r", "locks", "")
	if a := w.want(200, "all", "GET", empty, "", "Range", "bytes=0-"); a.ContentLength != 0 {
		t.Errorf("an empty object: Content-Length %d", a.ContentLength)
	}
}

// TestUploads: with and without a length, cut short, and never visible before all of it is there.
func TestUploads(t *testing.T) {
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	content := strings.Repeat("x", 300_000)
	path := "/r/data/" + id(content)
	conn := w.Dial(t)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxsOnNlY3JldA==\r\nAccept: application/vnd.x.restic.rest.v2\r\nContent-Length: %d\r\n\r\n%s", path, len(content), content[:1000])
	w.want(404, "all", "GET", path, "")
	if a := w.want(200, "all", "GET", "/r/data/", ""); a.body != "[]" {
		t.Errorf("an unfinished upload is listed: %s", a.body)
	}
	conn.Close()
	w.Logged(t) // the request has ended
	w.want(404, "all", "GET", path, "")
	type chunked struct{ *strings.Reader } // whose length is not known
	if a := w.send("all", "POST", path, chunked{strings.NewReader(content)}, "Accept", "application/vnd.x.restic.rest.v2"); a.StatusCode != 200 {
		t.Errorf("in chunks: %s %s", a.Status, a.body)
	}
	if a := w.want(200, "all", "GET", path, ""); a.body != content {
		t.Errorf("got %d bytes", len(a.body))
	}
}
