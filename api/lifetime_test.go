package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/api/tokens"
	"packhouse/repo"
	"packhouse/repo/policy"
)

func openTokens(t *testing.T) *tokens.Store {
	t.Helper()
	store, err := tokens.Open(tokens.Options{Path: filepath.Join(t.TempDir(), "tokens.json")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func issue(t *testing.T, store *tokens.Store, name string, lasts time.Duration) (secret string) {
	t.Helper()
	token := tokens.Token{Name: name, Role: policy.Backup, Repositories: []string{"r"}}
	if lasts > 0 {
		token.Expires = time.Now().Add(lasts)
	}
	_, secret, err := store.Create(token)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// narrowed is an Authorize by the store.
func narrowed(store *tokens.Store) func(string, api.Dialect, repo.Principal, bool) repo.Principal {
	return func(repository string, d api.Dialect, p repo.Principal, _ bool) repo.Principal {
		p.Permissions = policy.Nothing()
		if token, ok := store.Named(p.Name); ok {
			p.Permissions = token.Permissions(repository, "")
		}
		return p
	}
}

// TestIssuedTokens: a token is accepted by Bearer and as the password of anyone, and refused when it is none any more.
func TestIssuedTokens(t *testing.T) {
	store := openTokens(t)
	secret := issue(t, store, "laptop", 0)
	configured := issue(t, store, "forgotten", 0)
	if _, err := store.Revoke("forgotten"); err != nil {
		t.Fatal(err)
	}
	f := startEcho(t, api.Options{Authorize: narrowed(store), Auth: newAuth(t, api.AuthOptions{
		Tokens: []api.Token{{Name: "token", Secret: "0123456789abcdef0123456789abcdef"}, {Name: "kept", Secret: configured}},
		Users:  []api.User{{Name: "alice", Password: "ph_password"}}, Issued: store,
	})})
	expired := issue(t, store, "old", time.Millisecond)
	time.Sleep(5 * time.Millisecond)
	basic := func(user, secret string) string {
		r, _ := http.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, secret)
		return r.Header.Get("Authorization")
	}
	for _, test := range []struct {
		name, header string
		status       int
		want         string // in the answer
		reason       string // in the log
	}{
		{"bearer", "Bearer " + secret, 200, "principal=laptop", ""},
		{"basic", basic("anyone", secret), 200, "principal=laptop", ""},
		{"basic of a user", basic("alice", secret), 200, "principal=laptop", ""},
		{"configured", "Bearer 0123456789abcdef0123456789abcdef", 200, "principal=token", ""},
		{"one that was made here, and is configured", "Bearer " + configured, 200, "principal=kept", ""},
		{"a password that looks like one", basic("alice", "ph_password"), 200, "principal=alice", ""},
		{"expired", "Bearer " + expired, 401, "the token has expired: old", "the token has expired: old"},
		{"cut", "Bearer " + secret[:30], 401, "malformed", "the token is malformed"},
		{"unknown", "Bearer " + secret[:len(secret)-4] + "aaaa", 401, "unknown, or was revoked", "the token is unknown, or was revoked"},
		{"none", "Bearer nonsense", 401, "Unauthorized", "wrong credentials"},
	} {
		response, body := get(t, f.Addr, "GET", "/r/x", "Authorization", test.header)
		if response.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %q, want %d %q", test.name, response.StatusCode, body, test.status, test.want)
		}
		if log := f.Logged(t); test.reason != "" && !strings.Contains(log, test.reason) {
			t.Errorf("%s: the log lacks %q", test.name, test.reason)
		}
	}
	// Requests with secrets that nobody can guess are not counted against the address.
	for range 30 {
		get(t, f.Addr, "GET", "/r/x", "Authorization", basic("alice", expired))
	}
	if response, body := get(t, f.Addr, "GET", "/r/x", "Authorization", basic("alice", "ph_password")); response.StatusCode != 200 {
		t.Errorf("a user after wrong tokens: got %d %q", response.StatusCode, body)
	}
	if strings.Contains(f.Logged(t), secret) {
		t.Error("the log has a secret")
	}
}

// TestIssuedTokensNeedAuthorize: a server whose tokens could do everything does not start.
func TestIssuedTokensNeedAuthorize(t *testing.T) {
	store := openTokens(t)
	f := startEcho(t, api.Options{})
	auth := newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "token", Secret: "t"}}, Issued: store})
	_, err := api.New(api.Options{Set: f.Set, Dialects: []api.Dialect{echo{name: "plain"}}, Auth: auth})
	if err == nil || !strings.Contains(err.Error(), "Authorize") {
		t.Errorf("got %v", err)
	}
	if _, err := api.NewAuth(api.AuthOptions{NoAuth: true, Issued: store}); err == nil {
		t.Error("tokens, and everyone is let in")
	}
}

// TestRequestsEndWithTheirToken: uploads, downloads, and requests that wait end when their token does, those of others go on.
func TestRequestsEndWithTheirToken(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, ends := range []string{"revoked", "expired"} {
			t.Run(fmt.Sprintf("%s, TLS %v", ends, secure), func(t *testing.T) { testRequestsEnd(t, secure, ends) })
		}
	}
}

func testRequestsEnd(t *testing.T, secure bool, ends string) {
	store := openTokens(t)
	lasts := time.Duration(0)
	if ends == "expired" {
		lasts = 300 * time.Millisecond
	}
	began, left := make(chan string, 8), make(chan string, 8)
	dialect := echo{name: "plain", serve: func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
		kind := target.Path
		began <- target.Principal.Name + kind
		defer func() { left <- target.Principal.Name + kind }()
		switch kind {
		case "/upload":
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				api.WriteText(w, r, http.StatusBadRequest, err.Error())
				return true
			}
		case "/download":
			if _, err := io.Copy(w, &endless{r.Context()}); err != nil {
				return true
			}
		case "/wait":
			<-r.Context().Done()
		case "/none":
			<-r.Context().Done()
			return true
		}
		api.WriteText(w, r, http.StatusOK, "done")
		return true
	}}
	f := startEcho(t, api.Options{
		Dialects: []api.Dialect{dialect}, Authorize: narrowed(store),
		Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "token", Secret: "0123456789abcdef0123456789abcdef"}}, Issued: store}),
	})
	dial := func() net.Conn { return f.Dial(t) }
	if secure {
		dial = serveSecure(t, f)
	}
	secrets := map[string]string{"gone": issue(t, store, "gone", lasts), "kept": issue(t, store, "kept", 0)}
	ask := func(name, kind string) *bufio.ReadWriter {
		conn := dial()
		fmt.Fprintf(conn, "POST /r/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 10\r\n\r\n12345", kind, secrets[name])
		if kind != "upload" {
			fmt.Fprint(conn, "67890")
		}
		if got := <-began; got != name+"/"+kind {
			t.Fatalf("began %s", got)
		}
		return bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	}
	upload, download, wait := ask("gone", "upload"), ask("gone", "download"), ask("gone", "wait")
	none := ask("gone", "none")
	other := ask("kept", "upload")
	if ends == "revoked" {
		if _, err := store.Revoke("gone"); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		select {
		case got := <-left:
			if !strings.HasPrefix(got, "gone/") {
				t.Errorf("%s ended", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a request does not end with its token")
		}
	}
	for kind, conn := range map[string]*bufio.ReadWriter{"upload": upload, "wait": wait, "none": none} {
		if text, err := io.ReadAll(conn); len(text) > 0 {
			t.Errorf("%s was answered: %q, %v", kind, text, err)
		}
	}
	text, _ := io.ReadAll(download) // up to where it was cut
	if bytes.Contains(text, []byte("done")) {
		t.Error("the download was completed")
	}
	fmt.Fprint(other, "67890")
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(other.Reader, nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the request of another token: %v, %v", response, err)
	}
	reason := map[string]string{"revoked": "the token was revoked", "expired": "the token has expired"}[ends]
	if log := f.Logged(t); strings.Count(log, reason) != 4 || !regexp.MustCompile(`principal=gone .* key=/upload status=400 `).MatchString(log) ||
		!regexp.MustCompile(`level=WARN msg=request .*principal=gone .* key=/none status=401 `).MatchString(log) {
		t.Errorf("the log has %d lines that say %q, want 4:\n%s", strings.Count(log, reason), reason, log)
	}
}

// endless is a body that goes on for as long as its context.
type endless struct{ ctx context.Context }

func (e *endless) Read(p []byte) (int, error) { return len(p), e.ctx.Err() }

// TestConnectionOutlivesRequest: the end of a token does not close a connection on which it has no request any more: a proxy
// uses it for others.
func TestConnectionOutlivesRequest(t *testing.T) {
	store := openTokens(t)
	secret := issue(t, store, "gone", 0)
	f := startEcho(t, api.Options{
		Authorize: narrowed(store),
		Auth:      newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "token", Secret: "0123456789abcdef0123456789abcdef"}}, Issued: store}),
	})
	conn := f.Dial(t)
	reader := bufio.NewReader(conn)
	ask := func(secret string) int {
		t.Helper()
		fmt.Fprintf(conn, "GET /r/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", secret)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	if got := ask(secret); got != 200 {
		t.Errorf("got %d", got)
	}
	if _, err := store.Revoke("gone"); err != nil {
		t.Fatal(err)
	}
	if got := ask("0123456789abcdef0123456789abcdef"); got != 200 {
		t.Errorf("another on the same connection: got %d", got)
	}
	if got := ask(secret); got != 401 {
		t.Errorf("a revoked token: got %d", got)
	}
}

// serveSecure serves a fixture's server over TLS, too, and returns how to connect to that.
func serveSecure(t *testing.T, f *apitest.Fixture) (dial func() net.Conn) {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	t.Cleanup(certified.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.Server.Serve(api.Listener{Listener: l}) }()
	t.Cleanup(func() {
		if err := errors.Join(f.Server.Shutdown(context.Background()), <-ended); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return func() net.Conn {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}
