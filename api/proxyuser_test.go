package api_test

import (
	"net/http"
	"strings"
	"testing"

	"packhouse/api"
)

// Who is logged in by a proxy: only a trusted one, only under a name that can be a user's, and never as a token.
func TestProxyUser(t *testing.T) {
	const header = "X-Remote-User"
	known := api.AuthOptions{
		ProxyHeader: header, Tokens: []api.Token{{Name: "token", Secret: "secret"}}, Users: []api.User{{Name: "alice", Password: "p"}, {Name: "bob", Password: "q"}},
	}
	anyone := api.AuthOptions{ProxyHeader: header}
	for _, tt := range []struct {
		name          string
		o             api.AuthOptions
		proxies       []string
		named         []string
		authorization string
		status        int
		want          string // in the body
	}{
		{"a user", known, api.DefaultProxies, []string{"alice"}, "", 200, "principal=alice permissions="},
		{"whatever credentials the proxy passes on", known, api.DefaultProxies, []string{"alice"}, basic("bob", "q"), 200, "principal=alice "},
		{"and be they wrong", known, api.DefaultProxies, []string{"alice"}, basic("bob", "wrong"), 200, "principal=alice "},
		{"no user", known, api.DefaultProxies, []string{"eve"}, "", 403, `"eve", who is no user`},
		{"no user, good credentials", known, api.DefaultProxies, []string{"eve"}, basic("bob", "q"), 403, `"eve", who is no user`},
		{"a token's name", known, api.DefaultProxies, []string{"token"}, "", 403, "name of a token"},
		{"twice", known, api.DefaultProxies, []string{"eve", "alice"}, "", 403, "2 times"},
		{"nobody", known, api.DefaultProxies, nil, "", 401, "Unauthorized"},
		{"an empty name", known, api.DefaultProxies, []string{" "}, "", 401, "Unauthorized"},
		{"nobody, credentials", known, api.DefaultProxies, nil, basic("bob", "q"), 200, "principal=bob "},
		{"nobody, a token", known, api.DefaultProxies, nil, "Bearer secret", 200, "principal=token "},
		{"a proxy that is not trusted", known, []string{"none"}, []string{"alice"}, "", 401, "Unauthorized"},
		{"a stranger's name beside credentials", known, []string{"10.0.0.0/8"}, []string{"alice"}, basic("bob", "q"), 200, "principal=bob "},
		{"anyone", anyone, api.DefaultProxies, []string{"Zoë"}, "", 200, "principal=Zoë permissions=null"},
		{"nobody of anyone", anyone, api.DefaultProxies, nil, basic("a", "b"), 401, "Unauthorized"},
		{"a colon", anyone, api.DefaultProxies, []string{"a:b"}, "", 403, "not one of a user"},
		{"no text", anyone, api.DefaultProxies, []string{"a\xffb"}, "", 403, "not one of a user"},
		{"too long", anyone, api.DefaultProxies, []string{strings.Repeat("n", 129)}, "", 403, "not one of a user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxies, err := api.ParseProxies(tt.proxies)
			if err != nil {
				t.Fatal(err)
			}
			f := startEcho(t, api.Options{Auth: newAuth(t, tt.o), Proxies: &proxies})
			req, err := http.NewRequest("GET", "http://"+f.Addr+"/r", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header[header] = tt.named
			req.Header.Set("Authorization", tt.authorization)
			response, body := roundTrip(t, req)
			if tt.status == 401 && len(tt.named) == 1 && tt.named[0] == "alice" && !strings.Contains(f.Logged(t), "believed only of trusted proxies") {
				t.Errorf("the log does not say why: %s", f.Logged(t))
			}
			if response.StatusCode != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %q, want %d %q", response.StatusCode, body, tt.status, tt.want)
			}
		})
	}
	if _, err := api.NewAuth(api.AuthOptions{NoAuth: true, ProxyHeader: header}); err == nil {
		t.Error("a header of proxies without authentication was accepted")
	}
}
