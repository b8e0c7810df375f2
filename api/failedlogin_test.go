package api_test

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"packhouse/api"
)

// TestFailedLogins: a login that fails is logged with the name that was tried, cut and escaped, wherever it fails, and is counted without it.
func TestFailedLogins(t *testing.T) {
	basic := func(name, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
	}
	long := strings.Repeat("ä", 50) + "Z"
	for _, tc := range []struct {
		name, path, header string
		login              string // in the log; "": none
		counted            bool
	}{
		{"a repository", "/repo/data/a", basic("mallory", "secret-1"), "mallory", true},
		{"the metrics", "/metrics", basic("mallory2", "secret-1"), "mallory2", true},
		{"our own API", "/-/repositories", basic("mallory3", "secret-1"), "mallory3", true},
		{"our own API of a repository", "/repo/-/jobs", basic("mallory4", "secret-1"), "mallory4", true},
		{"escaped", "/metrics", basic("a\x1b[31m\n\u202eb\"c", "secret-1"), `a\x1b[31m\n\u202eb\"c`, true},
		{"cut", "/metrics", basic(long, "secret-1"), strings.Repeat("ä", 32) + "…", true},
		{"not UTF-8", "/metrics", basic("a\xff\xfe", "secret-1"), `a\xff\xfe`, true},
		{"a token", "/metrics", "Bearer secret-1", "", true},
		{"no credentials", "/metrics", "", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := startEcho(t, api.Options{Auth: newAuth(t, api.AuthOptions{Users: []api.User{{Name: "alice", Password: strings.Repeat("p", 40)}}})})
			headers := []string{}
			if tc.header != "" {
				headers = []string{"Authorization", tc.header}
			}
			if resp, _ := get(t, f.Addr, "GET", tc.path, headers...); resp.StatusCode != http.StatusUnauthorized {
				t.Fatalf("got %d", resp.StatusCode)
			}
			line := f.Logged(t)
			if got := loginOf(line); got != tc.login {
				t.Errorf("got %q, want %q, in %s", got, tc.login, line)
			}
			if strings.Contains(line, "secret-1") {
				t.Errorf("the log has the password: %s", line)
			}
			want := "packhouse_failed_logins_total 0\n"
			if tc.counted {
				want = "packhouse_failed_logins_total 1\n"
			}
			if _, text := get(t, f.Addr, "GET", "/metrics", "Authorization", basic("alice", strings.Repeat("p", 40))); !strings.Contains(text, want) || strings.Contains(text, "mallory") {
				t.Errorf("want %q in %s", want, text)
			}
		})
	}
}

// loginOf is the attribute of a line of the log; "": it has none.
func loginOf(line string) string {
	_, rest, ok := strings.Cut(line, " login=")
	if !ok {
		return ""
	}
	rest = strings.TrimSpace(rest)
	if name, err := strconv.Unquote(rest); err == nil {
		return name
	}
	return rest
}
