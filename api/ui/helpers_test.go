package ui_test

import (
	"context"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/admin"
	"packhouse/api/alert"
	"packhouse/api/apitest"
	"packhouse/api/borgstore"
	"packhouse/api/local"
	"packhouse/api/tokens"
	"packhouse/api/ui"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
	"packhouse/repo/repotest"
)

var ctx = context.Background()

// principal stores what tests store.
var principal = repo.Principal{Name: "writer", Address: "192.0.2.1"}

// world is a server with pages over the repositories "r" and "alice/laptop".
type world struct {
	t      testing.TB
	set    *datadir.Set
	server *api.Server
	pages  *ui.Handler
	url    string
	log    *apitest.Log
	ahead  atomic.Int64 // of the clock of sessions
	posts  atomic.Int64 // requests to the API that may change something
	engine *compact.Engine
	alerts *alert.Monitor
	tokens *tokens.Store
	dir    string
}

// proxyHeader is the one in which a trusted proxy names the user.
const proxyHeader = "X-Remote-User"

// strong is a token that cannot be guessed.
const strong = "0123456789abcdef0123456789abcdef"

func (w *world) auth(tokens ...api.Token) *api.Auth {
	w.t.Helper()
	reads, err := policy.Parse(`{"":"lr"}`)
	if err != nil {
		w.t.Fatal(err)
	}
	auth, err := api.NewAuth(api.AuthOptions{
		Tokens: append(tokens, api.Token{Name: "other", Secret: "o" + strong}, api.Token{Name: "reader", Secret: "r" + strong, Permissions: reads}), Issued: w.tokens,
		Users: []api.User{{Name: "alice", Password: "guessable"}, {Name: "bob", Password: "guessable"}, {Name: "limited", Password: "guessable"}}, ProxyHeader: proxyHeader,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return auth
}

func newWorld(t testing.TB) *world { return newWorldOn(t, repotest.MemoryDir(t)) }

// newWorldOn is newWorld in a directory that may have repositories already.
func newWorldOn(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{t: t, log: new(apitest.Log), dir: dir}
	w.set = datadir.Open(datadir.Options{Dir: dir, Settings: func(string) repo.Settings {
		return repo.Settings{Quota: 1 << 30, Grace: time.Hour}
	}})
	w.engine = compact.New(compact.Options{Rate: 1 << 20})
	for _, name := range []string{"r", "alice/laptop"} {
		if _, err := w.set.Create(ctx, name, borgstore.Name); err != nil {
			t.Fatal(err)
		}
	}
	issued, err := tokens.Open(tokens.Options{Path: filepath.Join(t.TempDir(), "tokens.json")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issued.Close)
	w.tokens = issued
	w.alerts = alert.New(alert.Options{Config: alert.DefaultConfig()})
	t.Cleanup(w.alerts.Close)
	var server atomic.Pointer[api.Server]
	pages, err := ui.New(ui.Options{
		Server: func() http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.posts.Add(1)
				}
				server.Load().ServeHTTP(rw, r)
			})
		},
		Now:         func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
		ProxyHeader: func() string { return proxyHeader },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.pages = pages
	w.server, err = api.New(api.Options{
		Set: w.set, Dialects: []api.Dialect{borgstore.New(borgstore.Options{Engine: w.engine})}, UI: pages, Auth: w.auth(api.Token{Name: "root", Secret: strong}),
		Admin: admin.New(admin.Options{
			Set: w.set, Engine: w.engine, Locks: borgstore.InspectLocks, Break: borgstore.BreakLock, Alerts: w.alerts, Tokens: w.tokens, Removals: w.set,
			Check: local.CheckFromAfar,
			Authorize: func(_ *repo.Repository, name string, p repo.Principal, _ bool) repo.Principal {
				return w.authorize(name, p)
			},
		}),
		Authorize: func(name string, _ api.Dialect, p repo.Principal, _ bool) repo.Principal { return w.authorize(name, p) },
		Limits:    api.Limits{Last: time.Millisecond}, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Store(w.server)
	f := &apitest.Fixture{Server: w.server, Set: w.set, Log: w.log}
	w.url = "http://" + f.Serve(t, w.server, false)
	t.Cleanup(func() {
		if err := pages.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := w.engine.Close(); err != nil {
			t.Error(err)
		}
		if err := w.set.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// authorize gives the holder of an issued token what that grants; the user "limited" administrates nothing, and "bob" may enter what
// is alice's only.
func (w *world) authorize(name string, p repo.Principal) repo.Principal {
	if token, ok := w.tokens.Named(p.Name); ok {
		p.Permissions = policy.Intersect(p.Permissions, token.Permissions(name, borgstore.Name))
	}
	if p.Name == "bob" && !strings.HasPrefix(name, "alice/") {
		p.Permissions = policy.Nothing()
	}
	p.ClientOnly = p.Name == "limited"
	return p
}

func (w *world) access(name string) *repo.Access {
	w.t.Helper()
	r, err := w.set.Get(ctx, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.As(principal)
}

// person is a browser without scripts.
type person struct {
	*world
	client *http.Client
}

func (w *world) person() *person {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &person{w, &http.Client{Jar: jar, Timeout: time.Minute}}
}

// forget removes the cookies of a person.
func (w *world) forget(p *person) { p.client.Jar = w.person().client.Jar }

// loggedIn is a person with a session.
func (w *world) loggedIn(secret string) *person {
	w.t.Helper()
	p := w.person()
	if status, text := p.post("login", "secret", secret); status != http.StatusOK || !strings.Contains(text, "Log out") {
		w.t.Fatalf("login: got %d %s", status, text)
	}
	return p
}

// do sends a request, and returns what is to be read in the end.
func (p *person) do(r *http.Request) (int, string) {
	p.t.Helper()
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") || resp.Header.Get("Cache-Control") == "" ||
		resp.Header.Get("X-Frame-Options") != "DENY" {
		p.t.Errorf("%s %s: the headers are %v", r.Method, r.URL, resp.Header)
	}
	return resp.StatusCode, string(text)
}

func values(pairs []string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func (p *person) request(method, path, body string) *http.Request {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

func (p *person) get(page string, parameters ...string) (int, string) {
	p.t.Helper()
	return p.do(p.request(http.MethodGet, "/-/ui/"+page+"?"+values(parameters).Encode(), ""))
}

func (p *person) post(page string, fields ...string) (int, string) {
	p.t.Helper()
	return p.do(p.request(http.MethodPost, "/-/ui/"+page, values(fields).Encode()))
}

// wants is get of a page that must have texts.
func (p *person) wants(texts []string, page string, parameters ...string) string {
	p.t.Helper()
	status, text := p.get(page, parameters...)
	if status != http.StatusOK {
		p.t.Errorf("%s: got %d", page, status)
	}
	plain := readable(text)
	for _, want := range texts {
		if !strings.Contains(plain, want) {
			p.t.Errorf("%s %q: want %q in\n%s", page, parameters, want, plain)
		}
	}
	return text
}

var (
	tags   = regexp.MustCompile(`(?s)<[^>]*>`)
	blanks = regexp.MustCompile(`\s+`)
	form   = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)">(.*?)</form>`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// readable is what a person reads of a page.
func readable(text string) string {
	if i := strings.Index(text, "<main"); i >= 0 {
		text = text[i:]
	}
	return strings.TrimSpace(blanks.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(text, " ")), " "))
}

// fields are the hidden fields of the form of a page that is sent to action.
func (w *world) fields(text, action string) (pairs []string) {
	w.t.Helper()
	for _, f := range form.FindAllStringSubmatch(text, -1) {
		if f[1] != action {
			continue
		}
		for _, field := range hidden.FindAllStringSubmatch(f[2], -1) {
			pairs = append(pairs, field[1], html.UnescapeString(field[2]))
		}
		return pairs
	}
	w.t.Fatalf("there is no form for %s in\n%s", action, text)
	return nil
}

// wanted is a token that may be issued.
func wanted(name string) tokens.Token {
	return tokens.Token{Name: name, Role: policy.Read, Repositories: []string{tokens.All}}
}
