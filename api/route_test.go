package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

var admin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	p, ok := api.PrincipalFrom(r.Context())
	api.WriteText(w, r, http.StatusOK, fmt.Sprintf("admin %s %s %v", r.URL.Path, p.Name, ok))
})

// Paths reach the dialect as the client spelled them: not decoded, not cleaned, not redirected.
func TestRouting(t *testing.T) {
	type want struct{ target, repository, path, query string }
	tests := []struct {
		name    string
		root    string
		single  bool
		headers []string
		wants   []want
	}{
		{name: "many", wants: []want{
			{"/", "", "", ""},
			{"//", "", "", ""},
			{"/r", "r", "", ""},
			{"/r/", "r", "/", ""},
			{"/r//", "r", "//", ""},
			{"//r/a", "r", "/a", ""},
			{"/r/a/../b", "r", "/a/../b", ""},
			{"/r/a//b/./c/", "r", "/a//b/./c/", ""},
			{"/r/%2e%2e/a%2Fb", "r", "/%2e%2e/a%2Fb", ""},
			{"/r?list", "r", "", "list"},
			{"/r/a?b=c?d", "r", "/a", "b=c?d"},
			{"/r/a%20b?x=%zz", "r", "/a%20b", "x=%zz"},
			{"/%68ealth", "%68ealth", "", ""},
			{"/.hidden/x", ".hidden", "/x", ""},
			{"/config", "config", "", ""},
		}},
		{name: "single", single: true, wants: []want{
			{"/", "", "/", ""},
			{"//", "", "//", ""},
			{"/a/b", "", "/a/b", ""},
			{"///a?x", "", "///a", "x"},
		}},
		{name: "root", root: "main", wants: []want{
			{"/", "", "/", ""},
			{"/?list", "main", "/", "list"},
			{"/?a=1&stats", "main", "/", "a=1&stats"},
			{"/?other", "", "/", "other"},
			{"/config", "main", "/config", ""},
			{"/packs/ab/x", "main", "/packs/ab/x", ""},
			{"/packs/?list", "main", "/packs/", "list"},
			{"//packs/x", "main", "//packs/x", ""},
			{"/.tmp.x", "main", "/.tmp.x", ""},
			{"/other/config", "other", "/config", ""},
			{"/main/config", "main", "/config", ""},
		}},
		{name: "root, marked", root: "main", headers: []string{"X-Marked", "1"}, wants: []want{
			{"/", "main", "/", ""},
			{"/?other", "main", "/", "other"},
			{"/health", "main", "/health", ""},
			{"/r/health", "r", "/health", ""},
			{"/metrics", "metrics", "", ""},
			{"/-/x", "-", "/x", ""},
			{"/r/-/x", "r", "/-/x", ""},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := api.Options{Root: tt.root, Admin: admin}
			if tt.single {
				o.Set = datadir.Open(datadir.Options{Dir: t.TempDir(), Single: true})
			}
			f := startEcho(t, o)
			for _, want := range tt.wants {
				response, body := get(t, f.Addr, "GET", want.target, tt.headers...)
				_, rest, _ := strings.Cut(body, " ")
				text := fmt.Sprintf("repository=%q path=%q query=%q ", want.repository, want.path, want.query)
				if response.StatusCode != 200 || !strings.HasPrefix(rest, text) {
					t.Errorf("%s: got %d %s, want %s", want.target, response.StatusCode, body, text)
				}
			}
		})
	}
}

// A HEAD of the bare root goes where a GET of it goes, a POST to the repository mounted there.
func TestRoutingOfMethods(t *testing.T) {
	f := startEcho(t, api.Options{Root: "main", Dialects: []api.Dialect{echo{name: "plain", serve: func(w http.ResponseWriter, r *http.Request, t api.Target) bool {
		w.Header().Set("X-Repository", t.Name)
		return false
	}}}})
	for _, want := range []struct{ method, target, repository string }{
		{"GET", "/", ""}, {"HEAD", "/", ""}, {"HEAD", "/?other", ""}, {"GET", "/?stats", "main"}, {"HEAD", "/?stats", "main"},
		{"POST", "/", "main"}, {"PUT", "/", "main"}, {"HEAD", "/config", "main"},
	} {
		response, _ := get(t, f.Addr, want.method, want.target)
		if got := response.Header.Get("X-Repository"); response.StatusCode != 200 || got != want.repository {
			t.Errorf("%s %s: got %d of repository %q, want %q", want.method, want.target, response.StatusCode, got, want.repository)
		}
	}
}

// The first dialect that claims a request serves it, the last what none claims.
func TestDialects(t *testing.T) {
	f := startEcho(t, api.Options{})
	if _, body := get(t, f.Addr, "GET", "/r/x", "X-Marked", "1"); !strings.HasPrefix(body, "marked ") {
		t.Errorf("marked request: got %s", body)
	}
	if _, body := get(t, f.Addr, "GET", "/r/x"); !strings.HasPrefix(body, "plain ") {
		t.Errorf("plain request: got %s", body)
	}
	f = startEcho(t, api.Options{Dialects: []api.Dialect{echo{name: "marked", marked: true}}})
	if _, body := get(t, f.Addr, "GET", "/r/x"); !strings.HasPrefix(body, "marked ") {
		t.Errorf("unclaimed request: got %s", body)
	}
}

func TestAdminAndLocal(t *testing.T) {
	secret := strings.Repeat("s", 32)
	o := api.Options{
		Admin: admin,
		Local: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { api.WriteText(w, r, 200, "local "+r.URL.Path) }),
		Auth:  newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "token", Secret: secret}}}),
	}
	f := startEcho(t, o)
	trusted := f.Serve(t, f.Server, true)
	bearer := []string{"Authorization", "Bearer " + secret}
	tests := []struct {
		address, target string
		headers         []string
		status          int
		body            string
	}{
		{f.Addr, "/-/repos", nil, 401, "Unauthorized"},
		{f.Addr, "/-/repos", bearer, 200, "admin /-/repos token true"},
		{f.Addr, "/r/-/jobs", bearer, 200, "admin /r/-/jobs token true"},
		{f.Addr, "/r/-/jobs", nil, 401, "Unauthorized"},
		{f.Addr, "/-/local/yield", bearer, 404, "there is nothing at this path"},
		{trusted, "/-/local/yield", nil, 200, "local /-/local/yield"},
		{trusted, "/-/repos", nil, 200, "admin /-/repos local true"},
		{trusted, "/-/repos", []string{"X-Packhouse-Principal", "someone"}, 200, "admin /-/repos someone true"},
	}
	for _, tt := range tests {
		response, body := get(t, tt.address, "GET", tt.target, tt.headers...)
		if response.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s: got %d %q, want %d %q", tt.target, response.StatusCode, body, tt.status, tt.body)
		}
	}
	f = startEcho(t, api.Options{})
	if response, _ := get(t, f.Addr, "GET", "/-/x"); response.StatusCode != 404 {
		t.Errorf("without an admin API: got %d, want 404", response.StatusCode)
	}
}

// The headers of the trusted side count there only.
func TestTrustedHeaders(t *testing.T) {
	f := startEcho(t, api.Options{})
	trusted := f.Serve(t, f.Server, true)
	headers := []string{
		"X-Packhouse-Repository", "named", "X-Packhouse-Principal", "someone", "X-Packhouse-Permissions", `{"":"lr"}`,
	}
	_, body := get(t, trusted, "GET", "//a/b?c", headers...)
	if want := `plain repository="named" path="//a/b" query="c" principal=someone permissions={"":"lr"}`; body != want {
		t.Errorf("trusted: got %s, want %s", body, want)
	}
	// A path of a named repository is never the server's.
	if _, body := get(t, trusted, "GET", "/health", headers...); !strings.Contains(body, `path="/health"`) {
		t.Errorf("trusted, /health: got %s", body)
	}
	_, body = get(t, f.Addr, "GET", "/r/a", headers...)
	if want := `plain repository="r" path="/a" query="" principal=anonymous permissions=null`; body != want {
		t.Errorf("not trusted: got %s, want %s", body, want)
	}
	response, body := get(t, trusted, "GET", "/r/a", "X-Packhouse-Permissions", "{bad")
	if response.StatusCode != 400 || !strings.HasPrefix(body, "X-Packhouse-Permissions: ") {
		t.Errorf("bad permissions: got %d %q", response.StatusCode, body)
	}
}

func TestTrustedQuota(t *testing.T) {
	f := startEcho(t, api.Options{})
	trusted := f.Serve(t, f.Server, true)
	r, err := f.Set.Create(t.Context(), "r", "plain")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetQuota(t.Context(), 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{1000, 0, -1, 1 << 50} {
		get(t, trusted, "GET", "/a", "X-Packhouse-Repository", "r", "X-Packhouse-Quota", fmt.Sprint(limit))
		if got := r.Usage().Limit; got != 1<<40 {
			t.Errorf("after a request with %d: got a limit of %d, want it as it was", limit, got)
		}
	}
	if response, _ := get(t, trusted, "GET", "/a", "X-Packhouse-Repository", "r", "X-Packhouse-Quota", "many"); response.StatusCode != 400 {
		t.Errorf("bad quota: got %d, want 400", response.StatusCode)
	}
}

func TestAuthorize(t *testing.T) {
	readOnly, err := policy.New(map[string]string{"": "lr"})
	if err != nil {
		t.Fatal(err)
	}
	f := startEcho(t, api.Options{Authorize: func(repository string, d api.Dialect, p repo.Principal, _ bool) repo.Principal {
		if repository == "sealed" && d.Name() == "plain" {
			p.Permissions = readOnly
		}
		return p
	}})
	if _, body := get(t, f.Addr, "GET", "/sealed/x"); !strings.HasSuffix(body, `permissions={"":"lr"}`) {
		t.Errorf("sealed: got %s", body)
	}
	if _, body := get(t, f.Addr, "GET", "/other/x"); !strings.HasSuffix(body, `permissions=null`) {
		t.Errorf("other: got %s", body)
	}
}

func FuzzSplitPath(f *testing.F) {
	for _, seed := range []string{"", "/", "//", "/r", "/r/", "//r//x", "r/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, rest := api.SplitPath(path)
		if name+rest != strings.TrimLeft(path, "/") || strings.Contains(name, "/") || rest != "" && rest[0] != '/' {
			t.Fatalf("%q: got %q and %q", path, name, rest)
		}
	})
}

// TestAdminPaths: a name that is escaped in a path is found again, and nothing else is taken for a path of the administration API.
func TestAdminPaths(t *testing.T) {
	for _, name := range []string{"", "a", "alice/laptop", "mein büro/ß", "x@y"} {
		path := api.AdminPath(name, "trash/x")
		if got, rest, ok := api.SplitAdminPath(path); !ok || got != name || rest != "trash/x" {
			t.Errorf("%q: path %q is of %q, %q, %v", name, path, got, rest, ok)
		}
	}
	for _, path := range []string{"/", "/a", "/a/b", "/a/b/c/-/x", "/a/-", "/a/-/%2e", "/-/a%20b", "/%zz/-/x"} {
		if name, rest, ok := api.SplitAdminPath(path); ok {
			t.Errorf("%q is of %q, %q", path, name, rest)
		}
	}
}

// namer is a dialect that counts how often it is asked for the repository of a request.
type namer struct {
	echo
	asked *atomic.Int64
}

func (n namer) Locate(string) (name, rest string, ok bool) {
	n.asked.Add(1)
	return "", "", false
}

// TestWaitingLooksIntoNothing: a request that says nothing of its protocol looks into no repository before it is its turn.
func TestWaitingLooksIntoNothing(t *testing.T) {
	var asked atomic.Int64
	arrived, end := make(chan struct{}), make(chan struct{})
	serve := func(http.ResponseWriter, *http.Request, api.Target) bool {
		arrived <- struct{}{}
		<-end
		return false
	}
	f := startEcho(t, api.Options{
		Limits:   api.Limits{Requests: 1, Wait: 10 * time.Millisecond},
		Dialects: []api.Dialect{namer{echo{name: "marked", marked: true}, &asked}, echo{name: "plain", serve: serve}},
	})
	var first sync.WaitGroup
	first.Go(func() {
		if response, body := get(t, f.Addr, "GET", "/r/x"); response.StatusCode != 200 {
			t.Errorf("the first: got %d %s", response.StatusCode, body)
		}
	})
	<-arrived
	if response, body := get(t, f.Addr, "GET", "/r/x"); response.StatusCode != 503 {
		t.Errorf("the second: got %d %s", response.StatusCode, body)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once, for the first", n)
	}
	close(end)
	first.Wait()
}
