package ui_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo/repotest"
)

// TestLogin: a session begins with credentials that the API accepts, and with nothing else.
func TestLogin(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name   string
		fields []string
		status int
		text   string
	}{
		{"nothing", nil, http.StatusBadRequest, "Enter a token, or a user and a password."},
		{"wrong token", []string{"secret", "x" + strong}, http.StatusUnauthorized, "The server does not know these credentials."},
		{"wrong password", []string{"user", "alice", "secret", "x"}, http.StatusUnauthorized, "The server does not know these credentials."},
		{"control character", []string{"user", "alice\n", "secret", "a\r\nX: y"}, http.StatusBadRequest, "no control characters"},
	} {
		p := w.person()
		status, text := p.post("login", test.fields...)
		if status != test.status || !strings.Contains(readable(text), test.text) {
			t.Errorf("%s: got %d %s, want %d %s", test.name, status, readable(text), test.status, test.text)
		}
		if _, text := p.get(""); !strings.Contains(readable(text), "Log in") || strings.Contains(text, "alice/laptop") {
			t.Errorf("%s: there is a session: %s", test.name, readable(text))
		}
	}
	for _, fields := range [][]string{{"secret", strong}, {"secret", " " + strong + " "}, {"user", "alice", "secret", "guessable"}, {"user", "anyone", "secret", strong}} {
		p := w.person()
		if status, text := p.post("login", fields...); status != http.StatusOK || !strings.Contains(readable(text), "alice/laptop") {
			t.Errorf("%q: got %d %s", fields, status, readable(text))
		}
	}
	if log := w.log.String(); strings.Contains(log, "guessable") || strings.Contains(log, strong) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}

// TestVouched: whom a trusted proxy names needs no password, as long as it says so.
func TestVouched(t *testing.T) {
	w := newWorld(t)
	p := w.person()
	post := func(user string) (int, string) {
		t.Helper()
		r := p.request(http.MethodPost, "/-/ui/login", "")
		r.Header.Set(proxyHeader, user)
		return p.do(r)
	}
	if status, text := post("nobody"); status != http.StatusUnauthorized && status != http.StatusForbidden {
		t.Errorf("somebody who is no user: got %d %s", status, readable(text))
	}
	if status, text := post("alice"); status != http.StatusOK || !strings.Contains(readable(text), "alice/laptop") || !strings.Contains(text, "<span>alice</span>") {
		t.Errorf("got %d %s", status, readable(text))
	}
	if status, text := p.get(""); status != http.StatusUnauthorized || strings.Contains(text, "alice/laptop") {
		t.Errorf("past the proxy: got %d %s", status, readable(text))
	}
	none, err := api.ParseProxies([]string{"none"})
	if err != nil {
		t.Fatal(err)
	}
	w.server.SetProxies(none)
	if status, text := post("alice"); status != http.StatusUnauthorized {
		t.Errorf("from a proxy that is not trusted: got %d %s", status, readable(text))
	}
}

// TestVouchedForAnother: a session that began without credentials is for the user whom the proxy named then.
func TestVouchedForAnother(t *testing.T) {
	w := newWorld(t)
	p := w.person()
	as := func(user, method, page string) (int, string) {
		t.Helper()
		r := p.request(method, "/-/ui/"+page, "")
		r.Header.Set(proxyHeader, user)
		p.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			r.Header.Set(proxyHeader, user)
			return nil
		}
		return p.do(r)
	}
	as("alice", http.MethodPost, "login")
	if status, text := as("alice", http.MethodGet, ""); status != http.StatusOK || !strings.Contains(text, "<span>alice</span>") {
		t.Fatalf("got %d %s", status, readable(text))
	}
	if status, text := as("bob", http.MethodGet, ""); status != http.StatusUnauthorized || !strings.Contains(readable(text), "of another user") || strings.Contains(text, "alice/laptop") {
		t.Errorf("as another one: got %d %s", status, readable(text))
	}
	if _, text := as("alice", http.MethodGet, ""); strings.Contains(text, "alice/laptop") {
		t.Error("the session goes on")
	}
}

// TestCookieKinds: a session that began by TLS is not for requests without it, and the other way round.
func TestCookieKinds(t *testing.T) {
	w := newWorld(t)
	p := w.loggedIn(strong)
	base, err := url.Parse(w.url + "/-/ui/")
	if err != nil {
		t.Fatal(err)
	}
	value := p.client.Jar.Cookies(base)[0].Value
	w.forget(p)
	for _, test := range []struct {
		name, scheme string
		there        bool
	}{{"packhouse_session", "http", true}, {"packhouse_session", "https", false}, {"__Host-packhouse_session", "https", true}, {"__Host-packhouse_session", "http", false}} {
		r := p.request(http.MethodGet, "/-/ui/", "")
		r.Header.Set("Cookie", test.name+"="+value)
		r.Header.Set("X-Forwarded-Proto", test.scheme)
		if _, text := p.do(r); strings.Contains(text, "alice/laptop") != test.there {
			t.Errorf("%s by %s: want a session %v", test.name, test.scheme, test.there)
		}
	}
}

// TestLoginIsLimited: who guesses at the form has the tries of every other client.
func TestLoginIsLimited(t *testing.T) {
	w := newWorld(t)
	p := w.person()
	for range 10 {
		p.post("login", "user", "alice", "secret", "wrong")
	}
	status, text := p.post("login", "user", "alice", "secret", "guessable")
	if status != http.StatusTooManyRequests || !strings.Contains(readable(text), "Too many failed attempts") {
		t.Errorf("got %d %s, want 429 in words", status, readable(text))
	}
}

// TestCookie: the cookie is for our pages alone, and secure where the way to the browser is.
func TestCookie(t *testing.T) {
	w := newWorld(t)
	cookie := func(headers ...string) *http.Cookie {
		t.Helper()
		p := w.person()
		r := p.request(http.MethodPost, "/-/ui/login", values([]string{"secret", strong}).Encode())
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if len(resp.Cookies()) != 1 || resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
		}
		return resp.Cookies()[0]
	}
	c := cookie()
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "" || c.Secure || len(c.Value) < 43 || c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("got %+v", c)
	}
	if other := cookie(); other.Value == c.Value {
		t.Error("two sessions have one cookie")
	}
	if c := cookie("X-Forwarded-Proto", "https"); !c.Secure || c.Name != "__Host-packhouse_session" || c.Path != "/" || c.Domain != "" {
		t.Errorf("behind TLS: got %+v", c) // the rules of the prefix: RFC 6265bis, 4.1.3.2
	}
	none, err := api.ParseProxies([]string{"none"})
	if err != nil {
		t.Fatal(err)
	}
	w.server.SetProxies(none)
	if c := cookie("X-Forwarded-Proto", "https"); c.Secure {
		t.Error("a peer that is not trusted has made the cookie secure")
	}
}

// TestCookiesAreOff: a browser that keeps no cookie is told so, rather than sent round in a circle.
func TestCookiesAreOff(t *testing.T) {
	p := newWorld(t).person()
	p.client.Jar = nil
	if status, text := p.post("login", "secret", strong); status != http.StatusOK || !strings.Contains(readable(text), "Allow cookies for this site") {
		t.Errorf("got %d %s", status, readable(text))
	}
}

// TestNext: after the login one is where one wanted to be, and never on another site.
func TestNext(t *testing.T) {
	w := newWorld(t)
	p := w.person()
	_, text := p.get("trash", "name", "alice/laptop")
	if !strings.Contains(text, `name="next" value="/-/ui/trash?name=alice%2Flaptop"`) {
		t.Fatalf("got %s", text)
	}
	if _, text := p.post("login", "secret", strong, "next", "/-/ui/trash?name=alice%2Flaptop"); !strings.Contains(readable(text), "nothing that can be restored") {
		t.Errorf("got %s", readable(text))
	}
	for _, next := range []string{"https://evil.example/-/ui/", "//evil.example/-/ui/", "/-/ui///evil.example/", `/-/ui/\evil`, "/-/ui/login?next=x", "/", "javascript:alert(1)"} {
		p := w.person()
		p.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if !strings.HasPrefix(r.URL.String(), w.url+"/-/ui/") {
				t.Errorf("%q leads to %s", next, r.URL)
			}
			return nil
		}
		if _, text := p.post("login", "secret", strong, "next", next); !strings.Contains(readable(text), "alice/laptop") {
			t.Errorf("%q: got %s", next, readable(text))
		}
	}
}

// TestSessionsEnd: by logging out, by time, by another login, and with the credentials.
func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	over := func(what string, p *person) {
		t.Helper()
		if _, text := p.get(""); strings.Contains(text, "alice/laptop") {
			t.Errorf("%s: the session goes on", what)
		}
	}
	goesOn := func(what string, p *person) {
		t.Helper()
		if _, text := p.get(""); !strings.Contains(text, "alice/laptop") {
			t.Errorf("%s: the session has ended: %s", what, readable(text))
		}
	}
	p := w.loggedIn(strong)
	base, err := url.Parse(w.url + "/-/ui/")
	if err != nil {
		t.Fatal(err)
	}
	kept := p.client.Jar.Cookies(base)
	_, text := p.get("")
	if _, text := p.post("logout", w.fields(text, "logout")...); !strings.Contains(readable(text), "You have logged out.") {
		t.Errorf("log out: got %s", readable(text))
	}
	over("logged out", p)
	w.forget(p)
	p.client.Jar.SetCookies(base, kept)
	over("logged out, and the cookie kept", p)

	p = w.loggedIn(strong)
	for range 5 {
		w.ahead.Add(int64(25 * time.Minute))
		goesOn("in use", p)
	}
	w.ahead.Add(int64(31 * time.Minute))
	over("not in use", p)
	p = w.loggedIn(strong)
	for range 25 {
		w.ahead.Add(int64(29 * time.Minute))
		p.get("")
	}
	over("after half a day", p)

	p = w.loggedIn(strong)
	before := p.client.Jar.Cookies(base)
	p.post("login", "secret", strong)
	goesOn("logged in again", p)
	w.forget(p)
	p.client.Jar.SetCookies(base, before)
	over("the one before", p)

	p, other := w.loggedIn(strong), w.loggedIn("o"+strong)
	w.server.SetAuth(w.auth()) // without root
	status, text := p.get("repository", "name", "r")
	if status != http.StatusUnauthorized || !strings.Contains(readable(text), "does not accept its credentials any more") {
		t.Errorf("revoked: got %d %s", status, readable(text))
	}
	w.server.SetAuth(w.auth(api.Token{Name: "root", Secret: strong}))
	over("revoked, and there again", p)
	goesOn("of another token", other)
}

// TestSessionsAreBounded: many logins cost nobody else the session.
func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t)
	first, other := w.loggedIn(strong), w.loggedIn("o"+strong)
	for range 31 {
		w.loggedIn(strong)
	}
	if _, text := first.get(""); !strings.Contains(text, "alice/laptop") {
		t.Error("32 sessions: the first has ended")
	}
	for range 32 {
		w.loggedIn(strong)
	}
	if _, text := first.get(""); strings.Contains(text, "alice/laptop") {
		t.Error("more than 32 sessions: the first goes on")
	}
	if _, text := other.get(""); !strings.Contains(text, "alice/laptop") {
		t.Error("the session of another one has ended")
	}
}

// TestForms: a form is carried out once, only from a page of the session, and only from this site.
func TestForms(t *testing.T) {
	w := newWorld(t)
	p := w.loggedIn(strong)
	lock := func() string {
		t.Helper()
		repotest.MustPut(t, w.access("r"), "locks/l", "a lock")
		_, text := p.get("lock", "name", "r", "id", "locks/l")
		return text
	}
	locked := func() bool {
		t.Helper()
		_, err := repotest.Get(w.access("r"), "locks/l")
		return err == nil
	}
	refused := func(what string, status, want int, text, words string) {
		t.Helper()
		if status != want || !strings.Contains(readable(text), words) {
			t.Errorf("%s: got %d %s, want %d %s", what, status, readable(text), want, words)
		}
		if !locked() {
			t.Errorf("%s: it was carried out", what)
		}
	}
	fields := w.fields(lock(), "lock")
	status, text := p.post("lock", "name", "r", "id", "locks/l")
	refused("no token", status, http.StatusForbidden, text, "not from a page of your session")
	status, text = w.loggedIn(strong).post("lock", fields...)
	refused("another session", status, http.StatusForbidden, text, "not from a page of your session")
	_, page := p.get("")
	logout := w.fields(page, "logout")
	status, text = p.post("lock", append(logout, "name", "r", "id", "locks/l")...)
	refused("the token of another form", status, http.StatusForbidden, text, "not from a page of your session")
	status, text = w.person().post("lock", fields...)
	refused("no session", status, http.StatusForbidden, text, "Nothing was changed: there is no session any more.")
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		r := p.request(http.MethodPost, "/-/ui/lock", values(fields).Encode())
		r.Header.Set(headers[0], headers[1])
		status, text = p.do(r)
		refused(headers[0]+" "+headers[1], status, http.StatusForbidden, text, "another site has sent this form")
	}
	status, text = p.do(p.request(http.MethodGet, "/-/ui/lock?"+values(fields).Encode(), ""))
	refused("by GET", status, http.StatusOK, text, "This lock will be removed")
	status, text = p.do(p.request(http.MethodPost, "/-/ui/lock?"+values(fields).Encode(), ""))
	refused("in the URL", status, http.StatusForbidden, text, "not from a page of your session")
	if n := w.posts.Load(); n != 0 {
		t.Fatalf("%d requests were to change something", n)
	}

	if status, text = p.post("lock", fields...); status != http.StatusOK || !strings.Contains(readable(text), "The lock locks/l is broken.") || locked() {
		t.Errorf("got %d %s", status, readable(text))
	}
	if _, text := p.get("repository", "name", "r"); strings.Contains(readable(text), "is broken") {
		t.Error("what was done is said twice")
	}
	lock()
	status, text = p.post("lock", fields...)
	refused("again", status, http.StatusConflict, text, "was sent before")

	fields = w.fields(lock(), "lock")
	before := w.posts.Load()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { p.post("lock", fields...) })
	}
	all.Wait()
	if n := w.posts.Load() - before; n != 1 {
		t.Errorf("of 8 at once %d were carried out", n)
	}
}

// TestLargeForms: a form that is too large is refused in words.
func TestLargeForms(t *testing.T) {
	w := newWorld(t)
	p := w.loggedIn(strong)
	text := p.wants(nil, "plan", "name", "r")
	fields := append(w.fields(text, "plan/estimate"), "plan", strings.Repeat("x", 2<<20))
	if status, text := p.post("plan/estimate", fields...); status != http.StatusBadRequest || !strings.Contains(readable(text), "larger than 1 MiB") {
		t.Errorf("got %d %s", status, readable(text))
	}
}

// TestNothingHere: other paths are nothing, with and without a session.
func TestNothingHere(t *testing.T) {
	w := newWorld(t)
	for _, p := range []*person{w.person(), w.loggedIn(strong)} {
		for _, path := range []string{"nothing", "assets/nothing", "assets/../handler.go", "repository/x"} {
			if status, text := p.get(path); status != http.StatusNotFound || !strings.Contains(readable(text), "no such page") {
				t.Errorf("%s: got %d %s", path, status, readable(text))
			}
		}
		if status, text := p.do(p.request(http.MethodGet, "/-/ui", "")); status != http.StatusOK {
			t.Errorf("got %d %s", status, text)
		}
		for name, kind := range map[string]string{"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"} {
			resp, err := p.client.Get(w.url + "/-/ui/assets/" + name)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, kind) {
				t.Errorf("%s: got %d %s", name, resp.StatusCode, got)
			}
		}
	}
}
