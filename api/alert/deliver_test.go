package alert_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/api/alert"
)

// message is one of a critical and a warning alert, with text that has markup of every service.
func message() alert.Message {
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	text := "items <@here> & \"more\" are lost"
	return alert.Message{
		Server: "here", Event: "alert", Level: alert.Critical, Title: "here: ä problem", Text: "CRITICAL a: damage: " + text, Time: at,
		Notices: []alert.Notice{{Status: alert.Problem, Alert: alert.Alert{Key: alert.Key{Kind: alert.Damage, Repository: "a"}, Level: alert.Critical, Text: text, Since: at}}},
	}
}

// TestWebhooks: each service gets what it reads.
func TestWebhooks(t *testing.T) {
	type got struct {
		method, path, body string
		header             http.Header
	}
	for _, tc := range []struct {
		name     string
		r        alert.Receiver
		level    alert.Level
		method   string
		path     string
		want     []string // in the body
		wantNone []string
		header   map[string]string
	}{
		{
			name: "json", r: alert.Receiver{Type: alert.Webhook, URL: "/hook?key=1", Token: "s3", Headers: map[string]string{"X-Key": "v"}}, level: alert.Critical, method: "POST", path: "/hook?key=1",
			want:   []string{`"server":"here"`, `"event":"alert"`, `"level":"critical"`, `"alerts":[{"status":"problem","kind":"damage","repository":"a","level":"critical"`, `"since":"2026-03-04T12:00:00Z"`},
			header: map[string]string{"Content-Type": "application/json", "Authorization": "Bearer s3", "X-Key": "v", "User-Agent": "packhouse/1"},
		},
		{
			name: "slack", r: alert.Receiver{Type: alert.Slack, URL: "/services/T/B/x"}, level: alert.Critical, method: "POST", path: "/services/T/B/x",
			want: []string{`{"text":"here: ä problem\nCRITICAL a: damage: items \u0026lt;@here\u0026gt; \u0026amp; \"more\" are lost"}`},
		},
		{
			name: "discord", r: alert.Receiver{Type: alert.Discord, URL: "/api/webhooks/1/x"}, level: alert.Critical, method: "POST", path: "/api/webhooks/1/x",
			want: []string{`"allowed_mentions":{"parse":[]}`, `"content":"here: ä problem\nCRITICAL`},
		},
		{
			name: "ntfy", r: alert.Receiver{Type: alert.Ntfy, URL: "/topic", Token: "tk_1"}, level: alert.Critical, method: "POST", path: "/topic", want: []string{"CRITICAL a: damage: items <@here>"},
			header: map[string]string{"Title": "=?utf-8?q?here:_=C3=A4_problem?=", "Priority": "5", "Tags": "rotating_light", "Authorization": "Bearer tk_1"},
		},
		{
			name: "ntfy, over", r: alert.Receiver{Type: alert.Ntfy, URL: "/topic"}, level: "", method: "POST", path: "/topic",
			header: map[string]string{"Priority": "2", "Tags": "white_check_mark", "Authorization": ""},
		},
		{
			name: "gotify", r: alert.Receiver{Type: alert.Gotify, URL: "/sub/", Token: "A1"}, level: alert.Warning, method: "POST", path: "/sub/message",
			want: []string{`"title":"here: ä problem"`, `"priority":5`}, header: map[string]string{"X-Gotify-Key": "A1"},
		},
		{name: "gotify, whole path", r: alert.Receiver{Type: alert.Gotify, URL: "/message", Token: "A1"}, level: alert.Critical, method: "POST", path: "/message", want: []string{`"priority":8`}},
		{name: "ping", r: alert.Receiver{Type: alert.Ping, URL: "/uuid"}, level: "", method: "GET", path: "/uuid"},
		{name: "ping that fails", r: alert.Receiver{Type: alert.Ping, URL: "/uuid"}, level: alert.Critical, method: "POST", path: "/uuid/fail", want: []string{"CRITICAL a: damage"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := make(chan got, 9)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				seen <- got{r.Method, r.URL.RequestURI(), string(body), r.Header}
			}))
			defer s.Close()
			tc.r.URL = s.URL + tc.r.URL
			if err := tc.r.Check(); err != nil {
				t.Fatal(err)
			}
			m := message()
			m.Level = tc.level
			if err := alert.DeliverMessage(t.Context(), tc.r, m); err != nil {
				t.Fatal(err)
			}
			g := <-seen
			if g.method != tc.method || g.path != tc.path {
				t.Errorf("got %s %s", g.method, g.path)
			}
			for _, want := range tc.want {
				if !strings.Contains(g.body, want) {
					t.Errorf("got %s, want %s", g.body, want)
				}
			}
			for name, want := range tc.header {
				if v := g.header.Get(name); v != want {
					t.Errorf("%s: got %q, want %q", name, v, want)
				}
			}
			if len(seen) > 0 {
				t.Errorf("%d more requests", len(seen))
			}
		})
	}
}

// TestWebhookFaults: each says what happened, without the URL's secret, and is no delivery.
func TestWebhookFaults(t *testing.T) {
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/secret/404":
			http.Error(w, "no\x1b[31m such topic", http.StatusNotFound)
		case "/secret/302":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/elsewhere":
			t.Error("a redirection was followed")
		case "/secret/cut":
			panic(http.ErrAbortHandler)
		}
	})
	s := httptest.NewServer(refuse)
	defer s.Close()
	secure := httptest.NewUnstartedServer(refuse)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	l.Close()
	for url, want := range map[string]string{
		s.URL + "/secret/404":           "answered 404 Not Found: no",
		s.URL + "/secret/302":           "answered with a redirection (302): write the address that it leads to as url",
		s.URL + "/secret/cut":           "EOF",
		closed + "/secret":              "connection refused",
		secure.URL + "/secret/":         "certificate",
		"http://nowhere.invalid/secret": "nowhere.invalid",
	} {
		err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: alert.Slack, URL: url}, message())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
	}
	hangs := make(chan bool)
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer silent.Close()
	defer close(hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := alert.DeliverMessage(ctx, alert.Receiver{Type: alert.Slack, URL: silent.URL + "/secret"}, message()); err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("a service that hangs: got %v", err)
	}
}

// TestLongTexts: services refuse what is too long, so it is cut.
func TestLongTexts(t *testing.T) {
	sizes := make(chan int, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var fields map[string]any
		n := len(body)
		if json.Unmarshal(body, &fields) == nil {
			n = len(fmt.Sprint(fields["content"], fields["text"]))
		}
		sizes <- n
	}))
	defer s.Close()
	m := message()
	m.Text = strings.Repeat("ä", 20_000)
	for kind, most := range map[alert.Type]int{alert.Discord: 2000 + 5, alert.Ntfy: 4096, alert.Slack: 8000 + 5} {
		if err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: kind, URL: s.URL}, m); err != nil {
			t.Error(err)
		} else if n := <-sizes; n > most || n < most/2 {
			t.Errorf("%s: got %d bytes, want at most %d", kind, n, most)
		}
	}
}

// mailServer is a mail server that answers some commands otherwise than well.
type mailServer struct {
	address string
	answers map[string]string // by the beginning of a command; "hang": none

	mu       sync.Mutex
	letters  []string
	commands []string
}

func newMailServer(t *testing.T, answers map[string]string) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{address: l.Addr().String(), answers: answers}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(t.Context(), func() { conn.Close() })
				defer stop()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	return s
}

func (s *mailServer) serve(conn net.Conn) {
	in := bufio.NewScanner(conn)
	say := func(command, otherwise string) bool {
		for start, answer := range s.answers {
			if strings.HasPrefix(command, start) {
				otherwise = answer
			}
		}
		if otherwise == "hang" {
			in.Scan()
			return false
		}
		_, err := fmt.Fprintf(conn, "%s\r\n", otherwise)
		return err == nil && !strings.HasPrefix(otherwise, "421")
	}
	if !say("connect", "220 mail.test ESMTP") {
		return
	}
	for in.Scan() {
		command := in.Text()
		s.mu.Lock()
		s.commands = append(s.commands, command)
		s.mu.Unlock()
		switch {
		case strings.HasPrefix(command, "EHLO"):
			if !say("EHLO", "250-mail.test\r\n250 AUTH PLAIN") {
				return
			}
		case command == "DATA":
			if !say("DATA", "354 go on") {
				return
			}
			var letter strings.Builder
			for in.Scan() && in.Text() != "." {
				letter.WriteString(in.Text() + "\n")
			}
			s.mu.Lock()
			s.letters = append(s.letters, letter.String())
			s.mu.Unlock()
			if !say("end", "250 accepted") {
				return
			}
		case strings.HasPrefix(command, "AUTH"):
			if !say("AUTH", "235 welcome") {
				return
			}
		case command == "QUIT":
			say("QUIT", "221 bye")
			return
		default:
			if !say(command, "250 fine") {
				return
			}
		}
	}
}

// TestMail: what is sent, and what mail servers can do instead of accepting it.
func TestMail(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers map[string]string
		to      []string
		user    string
		tls     string
		want    string // in the error; "": it is accepted
		letters int
	}{
		{name: "accepted", letters: 1},
		{name: "accepted, with a password", user: "ops", letters: 1},
		{name: "accepted, and the end of the connection fails", answers: map[string]string{"QUIT": "500 what?"}, letters: 1},
		{name: "accepted, and the connection is cut", answers: map[string]string{"RSET": "421 gone", "QUIT": "421 gone"}, letters: 1},
		{name: "busy", answers: map[string]string{"connect": "554 no service for you"}, want: "no service for you"},
		{name: "no such recipient", answers: map[string]string{"RCPT TO:<b@": "550 no such user"}, to: []string{"a@test.example", "b@test.example"}, want: "no such user"},
		{name: "wrong password", answers: map[string]string{"AUTH": "535 wrong password"}, user: "ops", want: "wrong password"},
		{name: "the letter is refused", answers: map[string]string{"end": "554 smells like spam"}, want: "smells like spam", letters: 1},
		{name: "no TLS", tls: alert.TLSStart, want: "STARTTLS"},
		{name: "silence", answers: map[string]string{"MAIL": "hang"}, want: "did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newMailServer(t, tc.answers)
			r := alert.Receiver{Type: alert.Mail, To: tc.to, From: "packhouse@test.example", SMTP: s.address, TLS: tc.tls}
			if r.To == nil {
				r.To = []string{"Admin <admin@test.example>"}
			}
			if tc.user != "" {
				r.User, r.Password = tc.user, "pass-word"
			}
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if tc.name == "silence" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
				defer cancel()
			}
			err := alert.DeliverMessage(ctx, r, message())
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && (strings.Contains(err.Error(), "pass-word") || !strings.Contains(err.Error(), s.address)) {
				t.Errorf("got %v", err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.letters) != tc.letters {
				t.Fatalf("got %d letters, want %d; commands %q", len(s.letters), tc.letters, s.commands)
			}
			if tc.want == "" {
				for _, want := range []string{
					"Subject: =?UTF-8?q?[packhouse]_here:_=C3=A4_problem?=", "CRITICAL a: damage: items <@here> & \"more\" are lost", "Auto-Submitted: auto-generated", "To: \"Admin\" <admin@test.example>", "Message-ID: <", "Date: ",
				} {
					if !strings.Contains(s.letters[0], want) && !strings.Contains(strings.ReplaceAll(s.letters[0], "=\n", ""), want) {
						t.Errorf("no %q in\n%s", want, s.letters[0])
					}
				}
				if tc.user != "" && !slices.ContainsFunc(s.commands, func(c string) bool { return strings.HasPrefix(c, "AUTH PLAIN") }) {
					t.Errorf("no login in %q", s.commands)
				}
			}
		})
	}
}

// TestCommand: it gets the message as JSON and in its environment, and nothing of the server's.
func TestCommand(t *testing.T) {
	t.Setenv("PACKHOUSE_TOKEN", "secret")
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	run := func(ctx context.Context, script string) error {
		return alert.DeliverMessage(ctx, alert.Receiver{Type: alert.Command, Command: []string{"/bin/sh", "-c", script}}, message())
	}
	if err := run(t.Context(), "cat >"+out+"; env >>"+out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"kind":"damage"`, "PACKHOUSE_ALERT_LEVEL=critical", "PACKHOUSE_ALERT_EVENT=alert", "PACKHOUSE_ALERT_TITLE=here: ä problem", "PACKHOUSE_ALERT_TEXT=CRITICAL a: damage"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(string(text), "secret") {
		t.Error("a command sees the environment of the server")
	}
	for script, want := range map[string]string{
		"exit 3":                          "exit status 3",
		"echo 'no modem\x1b' >&2; exit 1": "exit status 1: no modem",
		"kill -9 $$":                      "signal: killed",
	} {
		if err := run(t.Context(), script); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: got %v, want %q", script, err, want)
		}
	}
	if err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: alert.Command, Command: []string{"/no/such/program"}}, message()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	if err := run(t.Context(), "sleep 1000 & exit 0"); err != nil {
		t.Errorf("a command that leaves a process behind: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	pid := filepath.Join(dir, "pid")
	if err := run(ctx, "sleep 1000 & echo $! >"+pid+"; wait"); err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(pid); err == nil {
		for range 500 { // what it has started ends with it
			state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/stat")
			if err != nil || strings.Contains(string(state), ") Z ") {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("a process of a command that was ended is still there")
	}
}

// TestCheckReceiver: what is wrong with a receiver is said before it is used, without its secrets.
func TestCheckReceiver(t *testing.T) {
	mail := alert.Receiver{Type: alert.Mail, To: []string{"a@b.example"}, From: "p@b.example", SMTP: "mail.b.example:587"}
	with := func(r alert.Receiver, change func(*alert.Receiver)) alert.Receiver {
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name string
		r    alert.Receiver
		want string
	}{
		{"no type", alert.Receiver{}, "needs a type: one of webhook, slack"},
		{"unknown type", alert.Receiver{Type: "pager"}, `type "pager" is none of`},
		{"no URL", alert.Receiver{Type: alert.Slack}, "url must be complete"},
		{"relative URL", alert.Receiver{Type: alert.Slack, URL: "hooks.secret.example/x"}, "url must be complete"},
		{"no http", alert.Receiver{Type: alert.Ping, URL: "ftp://secret.example/x"}, "url must be complete"},
		{"no host", alert.Receiver{Type: alert.Ping, URL: "https:///secret"}, "url must be complete"},
		{"wrong port", alert.Receiver{Type: alert.Ping, URL: "https://secret.example:99999/"}, "port"},
		{"gotify without token", alert.Receiver{Type: alert.Gotify, URL: "https://g.example"}, "needs token or token_file"},
		{"a token of two lines", alert.Receiver{Type: alert.Ntfy, URL: "https://n.example/t", Token: "secret\nx"}, "cannot have"},
		{"a header", alert.Receiver{Type: alert.Webhook, URL: "https://n.example/t", Headers: map[string]string{"a b": "c"}}, "not valid in a header"},
		{"mail", mail, ""},
		{"mail without sender", with(mail, func(r *alert.Receiver) { r.From = "" }), "needs from"},
		{"mail to nobody", with(mail, func(r *alert.Receiver) { r.To = nil }), "needs to"},
		{"mail to a name", with(mail, func(r *alert.Receiver) { r.To = []string{"root"} }), `"root" is not a mail address`},
		{"mail without server", with(mail, func(r *alert.Receiver) { r.SMTP = "mail.b.example" }), "is not the address of a mail server"},
		{"half a login", with(mail, func(r *alert.Receiver) { r.User = "u" }), "belong together"},
		{"an open password", with(mail, func(r *alert.Receiver) { r.User, r.Password, r.TLS = "u", "secret", alert.TLSOff }), "without encryption"},
		{"no command", alert.Receiver{Type: alert.Command}, "needs command"},
		{"what is for another type", alert.Receiver{Type: alert.Slack, URL: "https://s.example/", Command: []string{"x"}}, "command has no meaning for a receiver of type slack"},
		{"quiet hours", alert.Receiver{Type: alert.Slack, URL: "https://s.example/", Quiet: "22-7"}, "not two times of day"},
		{"two faults", with(mail, func(r *alert.Receiver) { r.From, r.SMTP = "", "x" }), "is not the address"},
	} {
		err := tc.r.Check()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has a secret: %v", tc.name, err)
		}
	}
}
