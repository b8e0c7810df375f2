package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/api"
)

// lines collects what is written to it.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(p))
	return len(p), nil
}

func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.text) == 0 {
		return ""
	}
	return l.text[len(l.text)-1]
}

// The access log has a line for each request, whatever a client sends.
func TestAccessLog(t *testing.T) {
	log := &lines{}
	clock := &fakeClock{now: time.Date(2026, 11, 22, 0, 34, 36, 0, time.UTC)}
	f := startEcho(t, api.Options{AccessLog: log, Now: clock.Now, Quiet: true, Auth: newAuth(t, api.AuthOptions{Users: []api.User{{Name: "u", Password: "p"}, {Name: "a b", Password: "p"}}})})
	for _, tt := range []struct {
		user, target string
		headers      []string
		want         string
	}{
		{"u", "/r/keys/", nil, `127.0.0.1 - u [22/Nov/2026:00:34:36 +0000] "GET /r/keys/ HTTP/1.1" 200 N "" "Go-http-client/1.1"`},
		{"", "/r/", nil, `127.0.0.1 - - [22/Nov/2026:00:34:36 +0000] "GET /r/ HTTP/1.1" 401 12 "" "Go-http-client/1.1"`},
		{"a b", "/r/x?y=z", []string{"Referer", `a"b\`, "User-Agent", "agent 1"}, `127.0.0.1 - a_b [22/Nov/2026:00:34:36 +0000] "GET /r/x?y=z HTTP/1.1" 200 N "a\"b\\" "agent 1"`},
		{"u", "/r/", []string{"X-Forwarded-For", "2001:db8::1"}, `2001:db8::1 - u [22/Nov/2026:00:34:36 +0000] "GET /r/ HTTP/1.1" 200 N "" "Go-http-client/1.1"`},
		{"u", "/" + strings.Repeat("n", 2000), nil, `127.0.0.1 - u [22/Nov/2026:00:34:36 +0000] "GET /` + strings.Repeat("n", 1023) + `… HTTP/1.1" 200 N "" "Go-http-client/1.1"`},
	} {
		headers := tt.headers
		if tt.user != "" {
			headers = append(headers, "Authorization", basic(tt.user, "p"))
		}
		get(t, f.Addr, "GET", tt.target, headers...)
		f.Logged(t)
		got := regexp.MustCompile(`" 200 \d+ "`).ReplaceAllString(log.last(), `" 200 N "`)
		if got != tt.want+"\n" {
			t.Errorf("got  %swant %s", got, tt.want)
		}
	}
	if text := f.Logged(t); strings.Contains(text, "level=INFO") {
		t.Errorf("requests are in the log at level info: %s", text)
	}
}

// A server may have no metrics, and administration that only this machine reaches; without a repository of such a name, the paths are
// those of none.
func TestHiddenPages(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { api.WriteText(w, r, http.StatusOK, "administration") })
	f := startEcho(t, api.Options{NoMetrics: true, LocalAdmin: true, Admin: page, Root: "root"})
	if response, body := get(t, f.Addr, "GET", "/metrics"); response.StatusCode != 200 || !strings.Contains(body, `repository="metrics"`) {
		t.Errorf("metrics: got %d %s, want the repository %s", response.StatusCode, body, f.Logged(t))
	}
	for _, path := range []string{"/-/repositories", "/r/-/quota"} {
		if response, body := get(t, f.Addr, "GET", path); response.StatusCode != 404 {
			t.Errorf("%s: got %d %s, want 404", path, response.StatusCode, body)
		}
	}
}
