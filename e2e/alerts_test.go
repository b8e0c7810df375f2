//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mailServer is a real one, of which testdata/mailserver.py says what it does.
type mailServer struct {
	t                testing.TB
	starttls, first  string // its addresses
	certificate, dir string
}

func newMailServer(t testing.TB) *mailServer {
	t.Helper()
	modules := filepath.Join(venv(), "mail")
	if _, err := os.Stat(filepath.Join(modules, "aiosmtpd")); err != nil {
		lack(t, "aiosmtpd is not installed; scripts/install-clients.sh installs it")
	}
	m := &mailServer{t: t, starttls: freeAddress(t), first: freeAddress(t), dir: t.TempDir()}
	certificate, key := selfSigned(t)
	m.certificate = certificate
	port := func(address string) string {
		_, port, _ := net.SplitHostPort(address)
		return port
	}
	cmd := exec.Command(need(t, "python3"), "testdata/mailserver.py", port(m.starttls), port(m.first), certificate, key, m.dir)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+modules)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the mail server said:\n%s", log.String())
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the mail server does not start: %v\n%s", err, log.String())
	}
	return m
}

// mails are those that it has accepted, or has not said so of: whom each is for, and what it is about.
func (m *mailServer) mails() (all []string) {
	files, _ := filepath.Glob(filepath.Join(m.dir, "*.eml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		to, letter, _ := strings.Cut(string(text), "\n\n")
		_, subject, _ := strings.Cut(letter, "\r\nSubject: ")
		subject, _, _ = strings.Cut(subject, "\r\n")
		_, about, _ := strings.Cut(subject, ": ") // the name of this machine
		all = append(all, to+" "+about)
	}
	slices.Sort(all)
	return all
}

// TestMailServer: a real mail server gets mails by STARTTLS and by TLS from the start, with a login, each once; one whose certificate is not known, a wrong
// password and an address that is refused are shown, and keep nothing from the others.
func TestMailServer(t *testing.T) {
	t.Parallel()
	m := newMailServer(t)
	s := newServer(t)
	config := filepath.Join(s.dir, "packhouse.toml")
	text := fmt.Sprintf("[server]\ntoken = %q\nquota = 10_000\n[monitoring]\ninterval = '1s'\n", token)
	for _, r := range []struct{ name, to, smtp, more string }{
		{"start", `["a@test.example", "nobody@test.example", "B <b@test.example>"]`, m.starttls, "tls = 'starttls'\nuser = 'ops'\npassword = 's3cret-pass'"},
		{"first", `"c@test.example"`, m.first, "tls = 'implicit'\nuser = 'ops'\npassword = 's3cret-pass'"},
		{"wrong", `"d@test.example"`, m.first, "tls = 'implicit'\nuser = 'ops'\npassword = 's3cret-other'"},
		{"open", `"e@test.example"`, m.starttls, "tls = 'off'"},
		{"mixed", `"g@test.example"`, m.starttls, "tls = 'implicit'"},
		{"cut", `"cut@test.example"`, m.first, "tls = 'implicit'\nuser = 'ops'\npassword = 's3cret-pass'"},
	} {
		text += fmt.Sprintf("[[alert]]\nname = %q\ntype = 'mail'\nfrom = 'p@test.example'\nsummary = 'off'\nevents = ['quota']\nto = %s\nsmtp = %q\n%s\n", r.name, r.to, r.smtp, r.more)
	}
	writeFile(t, config, text, 0o600)
	s.args = []string{"serve", "-c", config, "--listen", s.addr, "--data-dir", s.data, "--log-format", "json"}
	s.env = []string{"SSL_CERT_FILE=" + m.certificate}
	s.expectErrors = "an alert could not be delivered"
	s.start()

	out, _ := try(t, nil, packhouse(), "alert", "test", "-d", s.data)
	for _, want := range []string{
		"start (mail, a@test.example): accepted\n",
		"start (mail, nobody@test.example): failed: mail server " + m.starttls + " refused the recipient nobody@test.example: 550 5.1.1 no such user\n",
		"start (mail, B <b@test.example>): accepted\n",
		"first (mail, c@test.example): accepted\n",
		"wrong (mail, d@test.example): failed: mail server " + m.first + " refused the connection or the login: 535 5.7.8 Authentication credentials invalid\n",
		"open (mail, e@test.example): failed: mail server " + m.starttls + " refused the sender p@test.example: 530 ",
		"mixed (mail, g@test.example): failed: mail server " + m.starttls + ": tls: first record does not look like a TLS handshake\n",
		"cut (mail, cut@test.example): failed: mail server " + m.first + " has the mail, and ended the connection before it said whether it accepts it: it may come twice",
		"5 of 8 test messages could not be delivered",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	for _, request := range [][2]string{{"laptop/?cmd=create", ""}, {"laptop/packs/a", strings.Repeat("x", 9500)}} {
		if status, text := s.post(request[0], request[1]); status != http.StatusOK {
			t.Fatalf("%s: got %d %s", request[0], status, text)
		}
	}
	want := []string{"a@test.example laptop: quota", "a@test.example test", "b@test.example laptop: quota", "b@test.example test", "c@test.example laptop: quota", "c@test.example test",
		"cut@test.example laptop: quota", "cut@test.example test"}
	await(t, "the mails", func() bool { return slices.Equal(slices.Compact(m.mails()), want) })
	s.kill() // soon after, but what was told is stored
	s.start()
	time.Sleep(3 * time.Second)
	if got := m.mails(); len(got) < len(want) || len(got) > len(want)+4 || !slices.Equal(slices.Compact(got), want) {
		t.Errorf("after a crash: got %q", got)
	}
	out = run(t, nil, packhouse(), "alert", "list", "-d", s.data)
	for _, want := range []string{"start\tmail\ta@test.example\t2", "first\tmail\tc@test.example\t2", "start\tmail\tnobody@test.example\tnever\t1\t0\t", "wrong\tmail\td@test.example\tnever\t1\t0\t"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	log, err := os.ReadFile(s.logPath)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "s3cret") {
		t.Errorf("the log has a password:\n%s", log)
	}
}

// await waits until something holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after a minute", what)
		}
	}
}

// TestAlertsOverCrashes: whenever the server is killed, what is wrong is told, and by each crash at most once more; after the end of the last one nothing is told
// again.
func TestAlertsOverCrashes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	told := make(map[string]int)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Event  string
			Alerts []struct{ Status, Kind, Repository string }
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			return // a request that the crash has cut
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range m.Alerts {
			told[a.Status+" "+a.Kind+" "+a.Repository]++
		}
	}))
	defer hook.Close()
	count := func(what string) int {
		mu.Lock()
		defer mu.Unlock()
		return told[what]
	}
	s := newServer(t)
	config := filepath.Join(s.dir, "packhouse.toml")
	writeFile(t, config, fmt.Sprintf("[server]\ntoken = %q\nquota = 10_000\n[monitoring]\ninterval = '1s'\n[[alert]]\nname = 'hook'\ntype = 'webhook'\nurl = %q\nsummary = 'off'\nevents = ['quota']\n",
		token, hook.URL), 0o600)
	s.args = []string{"serve", "-c", config, "--listen", s.addr, "--data-dir", s.data, "--log-format", "json"}
	const rounds = 8
	for i := range rounds {
		s.start()
		name := fmt.Sprint("r", i)
		for _, request := range [][2]string{{name + "/?cmd=create", ""}, {name + "/packs/a", strings.Repeat("x", 9500)}} {
			if status, text := s.post(request[0], request[1]); status != http.StatusOK {
				t.Fatalf("%s: got %d %s", request[0], status, text)
			}
		}
		time.Sleep(rand.N(1500 * time.Millisecond))
		s.kill()
	}
	s.start()
	for i := range rounds {
		await(t, fmt.Sprint("the alert of ", i), func() bool { return count(fmt.Sprint("problem quota r", i)) > 0 })
	}
	s.stop()
	mu.Lock()
	total := 0
	for what, n := range told {
		if total += n; n > 2 {
			t.Errorf("%s: told %d times", what, n)
		}
	}
	t.Logf("%d alerts were told %d times", rounds, total)
	clear(told)
	mu.Unlock()
	s.start()
	time.Sleep(3 * time.Second)
	s.stop()
	if len(told) > 0 {
		t.Errorf("after an end in order: got %v", told)
	}
}
