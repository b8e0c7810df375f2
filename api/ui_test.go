package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"packhouse/api"
)

// pagesForPeople says what it gets.
var pagesForPeople = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	api.WriteText(w, r, http.StatusOK, fmt.Sprintf("pages %s secure=%v body=%d %v", r.URL.Path, api.Secure(r), n, err))
})

// TestUIPaths: "/" shows what this is to a browser without credentials, and to nobody else.
func TestUIPaths(t *testing.T) {
	const html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, test := range []struct {
		method, path string
		headers      []string
		pages        bool
	}{
		{"GET", "/", []string{"Accept", html}, true},
		{"HEAD", "/", []string{"Accept", html}, true},
		{"GET", "/", []string{"Accept", "TEXT/HTML;q=0.5"}, true},
		{"GET", "/", nil, false},
		{"GET", "/", []string{"Accept", "*/*"}, false},
		{"GET", "/", []string{"Accept", "text/html; q=0"}, false},
		{"GET", "/", []string{"Accept", "application/json, text/plain"}, false},
		{"GET", "/", []string{"Accept", "text/html, application/vnd.x.restic.rest.v2"}, false},
		{"GET", "/", []string{"Accept", html, "Authorization", "Bearer x"}, false},
		{"GET", "/", []string{"Accept", html, "X-Marked", "1"}, false},
		{"GET", "/?list", []string{"Accept", html}, false},
		{"GET", "/r", []string{"Accept", html}, false},
		{"GET", "//", []string{"Accept", html}, false},
		{"POST", "/", []string{"Accept", html}, false},
		{"GET", "/-/ui", nil, true},
		{"GET", "/-/ui/", nil, true},
		{"POST", "/-/ui/x/y", nil, true},
		{"DELETE", "/-/ui/x", nil, true},
		{"GET", "/-/ui/x", []string{"X-Marked", "1"}, false},
		{"GET", "/-/uix", nil, false},
		{"GET", "/r/-/ui/", nil, false},
		{"GET", "/-%2fui/", nil, false},
	} {
		for _, there := range []bool{true, false} {
			o := api.Options{}
			if there {
				o.UI = pagesForPeople
			}
			resp, text := get(t, startEcho(t, o).Addr, test.method, test.path, test.headers...)
			if test.method == "HEAD" {
				text = map[bool]string{true: "pages"}[resp.ContentLength == int64(len("pages / secure=false body=0 <nil>"))]
			}
			if got, want := strings.HasPrefix(text, "pages"), test.pages && there; got != want {
				t.Errorf("%s %s %q, pages there: %v: got %d %q", test.method, test.path, test.headers, there, resp.StatusCode, text)
			}
		}
	}
}

// TestUIBodies: strangers send forms, so that what is read of them is bounded; and a proxy that is trusted says whether TLS was used.
func TestUIBodies(t *testing.T) {
	f := startEcho(t, api.Options{UI: pagesForPeople})
	post := func(size int, headers ...string) string {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, "http://"+f.Addr+"/-/ui/login", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := post(1000); got != "pages /-/ui/login secure=false body=1000 <nil>" {
		t.Errorf("a form: got %q", got)
	}
	if got := post(2 << 20); !strings.Contains(got, "larger than allowed") {
		t.Errorf("2 MiB: got %q", got)
	}
	if got := post(1, "X-Forwarded-Proto", "https"); !strings.Contains(got, "secure=true") {
		t.Errorf("through a trusted proxy: got %q", got)
	}
	none, err := api.ParseProxies([]string{"none"})
	if err != nil {
		t.Fatal(err)
	}
	f.Server.SetProxies(none)
	if got := post(1, "X-Forwarded-Proto", "https"); !strings.Contains(got, "secure=false") {
		t.Errorf("without a trusted proxy: got %q", got)
	}
	if log := f.Logged(t); !strings.Contains(log, "operation=ui") || strings.Contains(log, "level=INFO msg=request") {
		t.Errorf("the log: got %s", log)
	}
}
