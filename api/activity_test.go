package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo/datadir"
)

// The last requests of each client are remembered apart from those of others, and apart from those of our own API.
func TestActivity(t *testing.T) {
	var now atomic.Int64 // seconds after began
	began := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	at := func(seconds int64) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	entered, release := make(chan bool), make(chan bool)
	f := startEcho(t, api.Options{
		Now: func() time.Time { return at(now.Load()) },
		Auth: newAuth(t, api.AuthOptions{Users: []api.User{
			{Name: "alice", Password: "a"}, {Name: "bob", Password: "b"},
		}}),
		Admin: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { api.WriteText(w, r, http.StatusOK, "admin") }),
		Dialects: []api.Dialect{echo{name: "plain", serve: func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
			switch target.Path {
			case "/wait":
				entered <- true
				<-release
			case "/refused":
				api.WriteText(w, r, http.StatusConflict, "held")
				return true
			case "/look":
				target.Log.Reads = true
			}
			return false
		}}},
	})
	send := func(second int64, method, target, user, secret, address string) {
		t.Helper()
		now.Store(second)
		r, err := http.NewRequest(method, "http://"+f.Addr+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, secret)
		r.Header.Set("X-Forwarded-For", address)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	want := func(repository, principal, address string, want api.Activity) {
		t.Helper()
		want.Since, want.Started = began, true
		if got := f.Server.Activity(repository, principal, address); got != want {
			t.Errorf("%s of %s from %q: got %+v, want %+v", repository, principal, address, got, want)
		}
	}
	send(1, "PUT", "/r/a", "alice", "a", "10.0.0.1")
	send(2, "GET", "/r/a", "alice", "a", "10.0.0.1")
	send(3, "POST", "/r/look", "alice", "a", "10.0.0.1")
	send(4, "POST", "/r/refused", "alice", "a", "10.0.0.1")
	send(5, "DELETE", "/r/a", "alice", "a", "10.0.0.2")
	send(6, "GET", "/r/a", "bob", "b", "10.0.0.1")
	send(7, "PUT", "/s/a", "alice", "a", "10.0.0.1")
	send(8, "PUT", "/r/a", "alice", "wrong", "10.0.0.1")
	send(9, "POST", "/r/-/locks/break", "alice", "a", "10.0.0.1")
	want("r", "alice", "10.0.0.1", api.Activity{Request: at(4), Change: at(1)})
	want("r", "alice", "10.0.0.2", api.Activity{Request: at(5), Change: at(5)})
	want("r", "alice", "", api.Activity{Request: at(5), Change: at(5)})
	want("r", "bob", "10.0.0.1", api.Activity{Request: at(6)})
	want("s", "alice", "10.0.0.1", api.Activity{Request: at(7), Change: at(7)})
	want("s", "bob", "10.0.0.1", api.Activity{})

	done := make(chan bool)
	go func() {
		send(20, "PUT", "/r/wait", "bob", "b", "10.0.0.1")
		close(done)
	}()
	<-entered
	want("r", "bob", "10.0.0.1", api.Activity{Running: true, Request: at(6)})
	want("r", "bob", "", api.Activity{Running: true, Request: at(6)})
	release <- true
	<-done
	want("r", "bob", "10.0.0.1", api.Activity{Request: at(20), Change: at(20)})
}

// What is remembered is bounded, and the server knows what it has forgotten. Who has a request under way is not forgotten.
func TestActivityIsBounded(t *testing.T) {
	const most = 4096
	var now atomic.Int64
	began := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	at := func(seconds int64) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	entered, release := make(chan bool), make(chan bool)
	server, err := api.New(api.Options{
		Set: datadir.Open(datadir.Options{Dir: t.TempDir()}), Auth: newAuth(t, api.AuthOptions{NoAuth: true}),
		Now: func() time.Time { return at(now.Load()) },
		Dialects: []api.Dialect{echo{name: "plain", serve: func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
			if target.Path == "/wait" {
				entered <- true
				<-release
			}
			return false
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	send := func(target, address string) {
		r, err := http.NewRequest("GET", target, nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.RequestURI, r.RemoteAddr = target, address+":1"
		server.ServeHTTP(&discard{header: make(http.Header)}, r)
	}
	go send("/r/wait", "10.9.9.9")
	<-entered
	address := func(i int64) string { return fmt.Sprintf("10.1.%d.%d", i/200, i%200) }
	for i := range int64(most) + 2 {
		now.Store(i + 1)
		send("/r/a", address(i))
	}
	send("/"+strings.Repeat("x", 200)+"/a", "10.1.0.0") // no repository's name: not remembered
	principal := "anonymous"
	// Beside the one under way most-1 fit: the first three are forgotten.
	for i, want := range map[int64]time.Time{2: {}, 3: at(4), most + 1: at(most + 2)} {
		got := server.Activity("r", principal, address(i))
		if !got.Request.Equal(want) || !got.Since.Equal(at(3)) || got.Started {
			t.Errorf("client %d: got %+v, want the last request at %v, and nothing known before %v", i, got, want, at(3))
		}
	}
	if got := server.Activity("r", principal, "10.9.9.9"); !got.Running {
		t.Errorf("who has a request under way: got %+v", got)
	}
	release <- true
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func TestSilence(t *testing.T) {
	now := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		a    api.Activity
		want string
	}{
		{api.Activity{Request: ago(12 * time.Minute), Change: ago(12*time.Minute + 3*time.Second), Since: ago(time.Hour), Started: true}, "no request for 12 min"},
		{api.Activity{Request: ago(5 * time.Second), Change: ago(40 * time.Minute), Since: ago(time.Hour), Started: true},
			"no request for 5 s; nothing stored or removed for 40 min"},
		{api.Activity{Request: ago(119 * time.Minute), Since: ago(47 * time.Hour), Started: true},
			"no request for 119 min; nothing stored or removed since the server started, 47 h ago"},
		{api.Activity{Since: ago(3 * time.Minute), Started: true}, "no request since the server started, 3 min ago"},
		{api.Activity{Since: ago(72 * time.Hour)}, "no request for 3 days or longer"},
		{api.Activity{Running: true, Change: ago(2 * time.Hour), Since: ago(3 * time.Hour), Started: true},
			"a request is being answered; nothing stored or removed for 2 h"},
		{api.Activity{Request: now.Add(time.Second), Change: now.Add(time.Second), Since: ago(time.Hour), Started: true}, "no request for 0 s"}, // a clock put back
	} {
		if got := c.a.Silence(now); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.a, got, c.want)
		}
	}
}

// The command is as a shell reads it, whatever a client has chosen.
func TestBreakCommand(t *testing.T) {
	for _, c := range []struct {
		repository, id string
		options        []string
		want           string
	}{
		{"laptop", "repo-lock", nil, "packhouse lock break laptop repo-lock"},
		{"laptop", "locks/0001-ab.json", []string{"-d", "/srv/my data"}, "packhouse lock break -d '/srv/my data' laptop locks/0001-ab.json"},
		{"", "it's $(me)", nil, `packhouse lock break 'it'\''s $(me)'`},
		{"", "-x", []string{"-c", "f.toml"}, "packhouse lock break -c f.toml -- -x"},
		{"-r", "x", nil, "packhouse lock break -- -r x"},
		{"r", "", nil, "packhouse lock break r ''"},
	} {
		if got := api.BreakCommand(c.repository, c.id, c.options...); got != c.want {
			t.Errorf("%q %q: got %s, want %s", c.repository, c.id, got, c.want)
		}
	}
}
