package ui_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"packhouse/repo/repotest"
)

// TestBelowPrefix: behind a proxy that has the server below a path of its own, all links, forms and cookies are for that path.
func TestBelowPrefix(t *testing.T) {
	w := newWorld(t)
	repotest.MustPut(t, w.access("r"), "locks/l", "a lock")
	target, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"http", "https"} {
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header.Set("X-Forwarded-Proto", scheme)
		}}
		mux := http.NewServeMux()
		mux.Handle("/backup/", http.StripPrefix("/backup", proxy))
		front := httptest.NewUnstartedServer(mux)
		if front.Start(); scheme == "https" {
			front.Close()
			front = httptest.NewTLSServer(mux)
		}
		t.Cleanup(front.Close)
		p := w.person()
		p.client.Transport = front.Client().Transport
		p.world = &world{t: t, url: front.URL + "/backup", pages: w.pages}
		if status, text := p.post("login", "secret", strong, "next", "/-/ui/trash?name=r"); status != http.StatusOK || !strings.Contains(readable(text), "nothing that can be restored") {
			t.Fatalf("%s: login: got %d %s", scheme, status, readable(text))
		}
		for _, page := range []string{"-/ui", "-/ui/", "", "-/ui/repository?name=r", "-/ui/tokens/new?role=read&all=yes", "-/ui/nothing/at/all", "-/ui/lock?name=r&id=locks%2Fl", "-/ui/jobs?name=r"} {
			r := p.request(http.MethodGet, "/"+page, "")
			r.Header.Set("Accept", "text/html")
			_, text := p.do(r)
			at := resolve(t, front.URL+"/backup/"+strings.TrimSuffix(page, "ui")+map[bool]string{true: "ui/"}[strings.HasSuffix(page, "ui")], regexp.MustCompile(`<base href="([^"]*)">`).FindStringSubmatch(text)[1])
			if at != front.URL+"/backup/-/ui/" {
				t.Fatalf("%s %s: the base is %s", scheme, page, at)
			}
			found := regexp.MustCompile(`<(?:a|link|img|script|form|div)[^>]* (?:href|src|action|data-events)="([^"]*)"`).FindAllStringSubmatch(text, -1)
			if len(found) < 5 {
				t.Errorf("%s %s: %d links", scheme, page, len(found))
			}
			for _, m := range found {
				to := resolve(t, at, html.UnescapeString(m[1]))
				if !strings.HasPrefix(to, at) && to != front.URL+"/backup/#main" || strings.Contains(to, "ZgotmplZ") {
					t.Errorf("%s %s: %q leads to %s", scheme, page, m[1], to)
				}
			}
		}
		text := p.wants(nil, "lock", "name", "r", "id", "locks/l")
		if status, text := p.post("lock", p.fields(text, "lock")...); status != http.StatusOK || !strings.Contains(readable(text), "is broken") {
			t.Errorf("%s: a form: got %d %s", scheme, status, readable(text))
		}
		repotest.MustPut(t, w.access("r"), "locks/l", "a lock")
	}
}

func resolve(t *testing.T, base, reference string) string {
	t.Helper()
	b, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	to, err := b.Parse(reference)
	if err != nil {
		t.Fatal(err)
	}
	return to.String()
}
