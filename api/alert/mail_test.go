package alert_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/api/alert"
	"packhouse/api/apitest"
	"packhouse/repo/repotest"
)

// mailServer is a mail server that answers some commands otherwise than well.
type mailServer struct {
	address string
	answers map[string]string // by the beginning of a command; "hang": none; "close": the end of the connection
	tls     *tls.Config       // nil: it has no TLS
	first   bool              // TLS comes first
	hung    func()            // called when it hangs; nil: nothing is

	mu       sync.Mutex
	letters  []string
	commands []string
}

func newMailServer(t *testing.T, answers map[string]string) *mailServer {
	t.Helper()
	s := &mailServer{answers: answers}
	s.start(t)
	return s
}

func (s *mailServer) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
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
				if s.tls != nil && s.first {
					conn = tls.Server(conn, s.tls)
				}
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
}

func (s *mailServer) serve(conn net.Conn) {
	in := bufio.NewScanner(conn)
	say := func(command, otherwise string) bool {
		s.mu.Lock()
		answers := s.answers
		s.mu.Unlock()
		for start, answer := range answers {
			if strings.HasPrefix(command, start) {
				otherwise = answer
			}
		}
		switch otherwise {
		case "hang":
			if s.hung != nil {
				s.hung()
			}
			in.Scan()
			return false
		case "close":
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
			_, encrypted := conn.(*tls.Conn)
			offer := "250-mail.test\r\n250 AUTH PLAIN"
			if s.tls != nil && !encrypted {
				offer = "250-mail.test\r\n250 STARTTLS"
			}
			if !say("EHLO", offer) {
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
		case command == "STARTTLS" && s.tls != nil:
			if !say("STARTTLS", "220 go on") {
				return
			}
			conn = tls.Server(conn, s.tls)
			in = bufio.NewScanner(conn)
		case strings.HasPrefix(command, "AUTH LOGIN"):
			if !say("user", "334 VXNlcm5hbWU6") || !in.Scan() || !say("password", "334 UGFzc3dvcmQ6") || !in.Scan() || !say("AUTH", "235 welcome") {
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
		{name: "accepted, and the server closes instead of answering the end", answers: map[string]string{"QUIT": "close"}, letters: 1},
		{name: "busy", answers: map[string]string{"connect": "554 no service for you"}, want: "refused the connection or the login: 554 no service for you"},
		{name: "no such recipient", answers: map[string]string{"RCPT TO:<b@": "550 no such user"}, to: []string{"b@test.example"}, want: "refused the recipient b@test.example: 550 no such user"},
		{name: "no such sender", answers: map[string]string{"MAIL": "451 greylisted"}, want: "refused the sender packhouse@test.example: 451 greylisted"},
		{name: "login with a method of its own", answers: map[string]string{"EHLO": "250-mail.test\r\n250 AUTH LOGIN"}, user: "ops", letters: 1},
		{name: "no login", answers: map[string]string{"EHLO": "250 mail.test"}, user: "ops", want: "AUTH"},
		{name: "an endless answer", answers: map[string]string{"MAIL": "250-" + strings.Repeat("x", 2<<20)}, want: "it says too much"},
		{name: "the answer has the password", answers: map[string]string{"AUTH": "535 wrong: pass-word AG9wcwBwYXNzLXdvcmQ="}, user: "ops", want: "535 wrong: … …"},
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
				if tc.user != "" && !slices.ContainsFunc(s.commands, func(c string) bool { return strings.HasPrefix(c, "AUTH ") }) {
					t.Errorf("no login in %q", s.commands)
				}
			}
		})
	}
}

// certificate is one for a name, and the authorities that have signed it.
func certificate(t *testing.T, name string, ends time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority := apitest.NewAuthority(t, "authority")
	template := x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: ends.Add(-time.Hour), NotAfter: ends, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	return authority.Issue(t, template), authority.Pool()
}

// TestMailTLS: mail by STARTTLS and by TLS from the start, with each login, and certificates that are not to be trusted. Nothing that is to be kept secret
// is sent before there is TLS.
func TestMailTLS(t *testing.T) {
	good, roots := certificate(t, "127.0.0.1", time.Now().Add(30*time.Minute))
	other, otherRoots := certificate(t, "mail.example", time.Now().Add(30*time.Minute))
	old, oldRoots := certificate(t, "127.0.0.1", time.Now().Add(-time.Minute))
	const login, both = "250-mail.test\r\n250 AUTH LOGIN", "250-mail.test\r\n250 AUTH NTLM GSSAPI LOGIN PLAIN CRAM-MD5"
	for _, mode := range []string{alert.TLSStart, alert.TLSImplicit} {
		for _, tc := range []struct {
			name    string
			cert    tls.Certificate
			roots   *x509.CertPool
			answers map[string]string
			open    bool // the server has no TLS
			user    string
			method  string // of the login
			want    string // in the error; "": it is accepted
			refused bool   // it is not tried again soon
		}{
			{name: "no login"},
			{name: "plain", user: "ops", method: "PLAIN"},
			{name: "login", user: "ops", answers: map[string]string{"EHLO": login}, method: "LOGIN"},
			{name: "one of many", user: "ops", answers: map[string]string{"EHLO": both}, method: "PLAIN"},
			{name: "wrong password", user: "ops", answers: map[string]string{"AUTH": "535 5.7.8 wrong"}, method: "PLAIN", want: "refused the connection or the login: 535 5.7.8 wrong", refused: true},
			{name: "wrong password by login", user: "ops", answers: map[string]string{"EHLO": login, "AUTH": "535 5.7.8 wrong"}, method: "LOGIN", want: "535 5.7.8 wrong", refused: true},
			{name: "unknown authority", user: "ops", roots: x509.NewCertPool(), want: "certificate signed by unknown authority"},
			{name: "another name", user: "ops", cert: other, roots: otherRoots, want: "certificate"},
			{name: "ended", user: "ops", cert: old, roots: oldRoots, want: "expired"},
			{name: "no TLS", user: "ops", open: true, want: "TLS"},
			{name: "TLS fails", user: "ops", answers: map[string]string{"STARTTLS": "454 not now"}, want: "454 not now"},
			{name: "TLS hangs", user: "ops", answers: map[string]string{"STARTTLS": "hang"}, want: "did not answer in time"},
			{name: "full", answers: map[string]string{"RCPT": "452 mailbox full"}, want: "refused the recipient a@test.example: 452 mailbox full"},
		} {
			if mode == alert.TLSImplicit && tc.answers["STARTTLS"] != "" {
				continue
			}
			t.Run(mode+", "+tc.name, func(t *testing.T) {
				if tc.cert.Certificate == nil {
					tc.cert = good
				}
				if tc.roots == nil {
					tc.roots = roots
				}
				s := &mailServer{answers: map[string]string{}, first: mode == alert.TLSImplicit}
				for command, answer := range tc.answers {
					s.answers[command] = answer
				}
				if !tc.open {
					s.tls = &tls.Config{Certificates: []tls.Certificate{tc.cert}}
				}
				if offer := s.answers["EHLO"]; offer != "" && mode == alert.TLSStart {
					s.answers["EHLO"] = strings.Replace(offer, "250 AUTH", "250-STARTTLS\r\n250 AUTH", 1)
				}
				s.start(t)
				r := alert.Receiver{Type: alert.Mail, To: []string{"a@test.example"}, From: "p@test.example", SMTP: s.address, TLS: mode, User: tc.user}
				if tc.user != "" {
					r.Password = "pass-word"
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if strings.Contains(tc.want, "in time") || tc.open && mode == alert.TLSImplicit {
					ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
					defer cancel()
				}
				err := alert.DeliverMessage(ctx, r, message(), tc.roots)
				switch {
				case tc.want == "" && err != nil:
					t.Errorf("got %v", err)
				case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "pass-word")):
					t.Errorf("got %v, want %q", err, tc.want)
				case tc.want != "" && (alert.AfterFailure(r, errors.Unwrap(err), 0) == time.Hour) != tc.refused:
					t.Errorf("after %v it is tried again after %v", err, alert.AfterFailure(r, err, 0))
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if (len(s.letters) == 1) != (tc.want == "") {
					t.Errorf("got %d letters", len(s.letters))
				}
				encrypted := mode == alert.TLSImplicit
				method := ""
				for _, command := range s.commands {
					encrypted = encrypted || command == "STARTTLS"
					if !encrypted && !strings.HasPrefix(command, "EHLO") && command != "QUIT" {
						t.Errorf("%q was sent without TLS", command)
					}
					if rest, ok := strings.CutPrefix(command, "AUTH "); ok {
						method, _, _ = strings.Cut(rest, " ")
					}
				}
				if method != tc.method {
					t.Errorf("got a login by %q, want %q; commands %q", method, tc.method, s.commands)
				}
			})
		}
	}
}

// TestMailCut: wherever the mail server hangs or ends the connection, that is said; and also whether it may have the mail.
func TestMailCut(t *testing.T) {
	for _, command := range []string{"connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "end"} {
		for _, how := range []string{"hang", "close"} {
			t.Run(command+" "+how, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s := &mailServer{answers: map[string]string{command: how}, hung: cancel} // the time is over then, however slow this machine is
				s.start(t)
				r := alert.Receiver{Type: alert.Mail, To: []string{"a@test.example"}, From: "p@test.example", SMTP: s.address, User: "ops", Password: "pass-word"}
				err := alert.DeliverMessage(ctx, r, message())
				want := map[string]string{"hang": "did not answer in time", "close": "ended the connection"}[how]
				if command == "end" {
					want = map[string]string{"hang": "did not say in time whether it accepts it: it may come twice", "close": "before it said whether it accepts it: it may come twice"}[how]
				}
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pass-word") {
					t.Errorf("got %v, want %q", err, want)
				}
				if wait := alert.AfterFailure(r, errors.Unwrap(err), 0); wait != 30*time.Second {
					t.Errorf("it is tried again after %v", wait)
				}
			})
		}
	}
}

// TestMailRefusedForOne: of several addresses one is refused. The others have their mail, once; what is refused is shown, and tried again, over a restart
// too, for this one only.
func TestMailRefusedForOne(t *testing.T) {
	s := newMailServer(t, map[string]string{"RCPT TO:<b@": "550 no such user"})
	scene := newScene(t, nil)
	scene.create("a")
	c := alert.DefaultConfig()
	c.Interval = time.Millisecond
	c.Receivers = []alert.Receiver{{
		Name: "ops", Type: alert.Mail, To: []string{"a@test.example", "b@test.example", "Chief <c@test.example>", "a@test.example"}, From: "p@test.example", SMTP: s.address, Summary: "off",
	}}
	o := alert.Options{Config: c, Server: "here", Now: scene.clock.Now, Path: scene.dir + "/alerts.json"}
	m := alert.New(o)
	m.Start(scene.set)
	m.JobEnded("a", "scrub", "disk error")
	told := func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		var all []string
		for _, letter := range s.letters {
			to := letter[strings.Index(letter, "\nTo: ")+5:]
			all = append(all, to[:strings.Index(to, "\n")])
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	const want = `"Chief" <c@test.example> <a@test.example>`
	repotest.WaitFor(t, "mails", func() bool {
		state := m.State().Receivers
		return told() == want && len(state) == 3 && state[1].Failed == 1 && state[0].Waiting == 0 && state[2].Waiting == 0
	})
	b := m.State().Receivers[1]
	if b.Name != "ops" || b.To != "b@test.example" || b.Waiting != 1 || b.Error != "mail server "+s.address+" refused the recipient b@test.example: 550 no such user" ||
		b.Next.Sub(scene.clock.Now()) < 59*time.Minute {
		t.Errorf("got %+v", b)
	}
	if results := m.Test(t.Context(), "ops"); len(results) != 3 || results[0].Error != "" || results[1].Error != b.Error || results[1].To != "b@test.example" || results[2].Error != "" {
		t.Errorf("a test: got %+v", results)
	}
	m.Close()

	s.mu.Lock()
	s.letters, s.answers = nil, nil
	s.mu.Unlock()
	m = alert.New(o)
	m.Start(scene.set)
	repotest.WaitFor(t, "mail", func() bool { return told() != "" })
	time.Sleep(50 * time.Millisecond)
	if got := told(); got != "<b@test.example>" {
		t.Errorf("after a restart: got %s", got)
	}
	m.Close()
}
