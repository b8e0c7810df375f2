package alert_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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
			want: []string{"\"text\":\"here: ä problem\\nCRITICAL a: damage: items \\u0026lt;@\u2060here\\u0026gt; \\u0026amp; \\\"more\\\" are lost\"", `"mrkdwn":false`, `"unfurl_links":false`},
		},
		{
			name: "discord", r: alert.Receiver{Type: alert.Discord, URL: "/api/webhooks/1/x"}, level: alert.Critical, method: "POST", path: "/api/webhooks/1/x",
			want: []string{`"allowed_mentions":{"parse":[]}`, `"flags":4`, `"content":"here: ä problem\nCRITICAL a: damage: items \\\u003c@here\\\u003e`},
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
	for kind, most := range map[alert.Type]int{alert.Discord: 2000 + 5, alert.Ntfy: 4096, alert.Slack: 4000} {
		if err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: kind, URL: s.URL}, m); err != nil {
			t.Error(err)
		} else if n := <-sizes; n > most || n < most/2-300 {
			t.Errorf("%s: got %d bytes, want at most %d", kind, n, most)
		}
	}
}

// TestSecretsInAnswers: many servers name the path that was asked for, or say what came: none of it is shown.
func TestSecretsInAnswers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if len(body) > 0 && r.Header.Get("Content-Type") == "" {
			t.Error("a body without its type")
		}
		user, password, _ := r.BasicAuth()
		http.Error(w, fmt.Sprintf("Cannot POST %s %s %s %s %s %s %s", r.URL.RequestURI(), r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("X-Gotify-Key"), r.Header.Get("X-Key"), user, password), http.StatusNotFound)
	}))
	defer s.Close()
	withUser := strings.Replace(s.URL, "http://", "http://ops:secret-1@", 1)
	for _, r := range []alert.Receiver{
		{Type: alert.Slack, URL: s.URL + "/services/T0/B0/secret-1"},
		{Type: alert.Discord, URL: s.URL + "/api/webhooks/1/secret%201"},
		{Type: alert.Ntfy, URL: s.URL + "/secret-topic", Token: "tk_secret"},
		{Type: alert.Ntfy, URL: withUser + "/topic"},
		{Type: alert.Gotify, URL: s.URL, Token: "secret"},
		{Type: alert.Webhook, URL: s.URL + "/x?key=secret-1&k=secret", Headers: map[string]string{"X-Key": "secret", "X-Kind": "4"}},
		{Type: alert.Ping, URL: s.URL + "/secret"},
	} {
		err := alert.DeliverMessage(t.Context(), r, message())
		if err == nil || !strings.Contains(err.Error(), "answered 404 Not Found: Cannot POST") || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "topic") {
			t.Errorf("%s: got %v", r.Type, err)
		}
	}
}

// TestHostileNames: whatever the names of writers are, they make no header, no line, no markup and no mention of their own.
func TestHostileNames(t *testing.T) {
	const name = "x\r\nBcc: evil@test.example\r\n\r\n@everyone <!channel> <@1> **b** [l](http://evil.example) `c`\x00\x1b[31m\u202eab\u2028c\xff $(touch /x)"
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	told := make(chan alert.Message, 1)
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
		told <- m
		return nil
	})
	p.See([]alert.Condition{{Key: alert.Key{Kind: alert.Writer, Repository: "@all", Subject: name}, Level: alert.Warning, Text: name + " is late"}})
	p.Deliver("ops")
	m := <-told
	m.Time = at
	if strings.ContainsAny(m.Title+m.Text, "\r\n\x00\x1b\u202e\u2028") || !utf8.ValidString(m.Title+m.Text) {
		t.Errorf("got %q", m.Title+m.Text)
	}

	requests := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		bodies <- string(body)
	}))
	defer s.Close()
	send := func(kind alert.Type) (*http.Request, string) {
		t.Helper()
		if err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: kind, URL: s.URL + "/x", Token: "t"}, m); err != nil {
			t.Fatal(kind, err)
		}
		return <-requests, <-bodies
	}
	var fields struct {
		Text, Content, Message string
		AllowedMentions        struct{ Parse []string } `json:"allowed_mentions"`
	}
	_, body := send(alert.Slack)
	if err := json.Unmarshal([]byte(body), &fields); err != nil || strings.ContainsAny(fields.Text, "<>") || strings.Contains(fields.Text, "@everyone") || strings.Contains(fields.Text, "@all") ||
		!strings.Contains(fields.Text, "evil@test.example") {
		t.Errorf("slack: got %q, %v", fields.Text, err)
	}
	_, body = send(alert.Discord)
	if err := json.Unmarshal([]byte(body), &fields); err != nil || fields.AllowedMentions.Parse == nil || len(fields.AllowedMentions.Parse) > 0 ||
		!strings.Contains(fields.Content, `\*\*b\*\* \[l\]\(http`) || !strings.Contains(fields.Content, "\\`c\\`") {
		t.Errorf("discord: got %q, %v", fields.Content, err)
	}
	r, body := send(alert.Ntfy)
	title, err := new(mime.WordDecoder).DecodeHeader(r.Header.Get("Title"))
	if err != nil || !strings.HasPrefix(title, "here: @all: writer (x  Bcc: evil@test.example") || r.Header.Get("Bcc") != "" || strings.ContainsAny(body, "\r\n\x00") {
		t.Errorf("ntfy: got %q, %v, %q", title, err, body)
	}
	if _, body := send(alert.Webhook); !strings.Contains(body, `"subject":"x\r\nBcc`) {
		t.Errorf("webhook: got %s", body) // for programs it is what it is
	}

	mails := newMailServer(t, nil)
	if err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: alert.Mail, To: []string{"a@test.example"}, From: "p@test.example", SMTP: mails.address}, m); err != nil {
		t.Fatal(err)
	}
	letter, err := mail.ReadMessage(strings.NewReader(mails.letters[0]))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(letter.Header.Get("Subject"))
	if err != nil || letter.Header.Get("Bcc") != "" || !strings.HasPrefix(subject, "[packhouse] here: @all: writer (x  Bcc: evil@test.example") || len(mails.commands) != 5 {
		t.Errorf("mail: got %q, %v, %q", subject, err, mails.commands)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := alert.DeliverMessage(t.Context(), alert.Receiver{Type: alert.Command, Command: []string{"/bin/sh", "-c", `env -0 >"$0"`, out}}, m); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range strings.Split(string(text), "\x00") {
		if strings.ContainsAny(value, "\r\n\x1b") {
			t.Errorf("command: got %q", value)
		}
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
	if err := run(t.Context(), "sleep 10 & exit 0"); err != nil {
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
		{"ntfy without topic", alert.Receiver{Type: alert.Ntfy, URL: "https://n.example/"}, "url needs the topic"},
		{"a password in smtp", alert.Receiver{Type: alert.Mail, To: []string{"a@b.example"}, From: "p@b.example", SMTP: "u:secret@mail.b.example:25"}, "the login is user and password"},
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
