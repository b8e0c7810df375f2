package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/api/alert"
	"packhouse/compact"
	"packhouse/repo/datadir"
)

// hook is a webhook that keeps what it is told.
type hook struct {
	*httptest.Server
	told chan alert.Message
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{told: make(chan alert.Message, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m alert.Message
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil || r.Header.Get("Authorization") != "Bearer s3cret" {
			http.Error(w, "no", http.StatusForbidden)
			t.Errorf("got %s, %v", body, err)
			return
		}
		h.told <- m
	}))
	t.Cleanup(h.Close)
	return h
}

// await returns what is told of a kind, and forgets what comes before.
func (h *hook) await(t *testing.T, event string, kind alert.Kind, status alert.Status) alert.Notice {
	t.Helper()
	for {
		m := <-h.told
		if m.Event != event {
			continue
		}
		if kind == "" {
			return alert.Notice{}
		}
		for _, n := range m.Notices {
			if n.Kind == kind && n.Status == status {
				return n
			}
		}
	}
}

// TestAlerts: a server tells its receivers what is wrong, once, over a restart too, and when it is over. Its commands show that, and test.
func TestAlerts(t *testing.T) {
	dir := tempDir(t)
	h := newHook(t)
	file, data := filepath.Join(dir, "f.toml"), filepath.Join(dir, "d")
	write(t, filepath.Join(dir, "hook.token"), "s3cret\n")
	configure := func(quota int) {
		write(t, file, fmt.Sprintf(`[server]
token = "t"
data_dir = %q
quota = %d
[monitoring]
interval = "1s"
[[alert]]
name = "hook"
type = "webhook"
url = %q
token_file = %q
summary = "off"
[[alert]]
name = "gone"
type = "slack"
url = "http://127.0.0.1:1/services/secret"
[[alert]]
name = "mail"
type = "mail"
smtp = "127.0.0.1:1"
user = "ops"
password = "secret"
from = "p@test.example"
to = ["a@test.example", "b@test.example"]
`, data, quota, h.URL, filepath.Join(dir, "hook.token")))
	}
	configure(1000)
	if code, out, errs := runHere(t, "alert", "list", "-d", dir); code != 1 || !strings.Contains(errs, "this process sends no alerts: packhouse serve does, while it runs") {
		t.Errorf("without a server: got %d %s %s", code, out, errs)
	}
	s := startServer(t, dir, "-c", file)
	s.token = "t"
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/a", strings.Repeat("x", 950))
	n := h.await(t, "alert", alert.Quota, alert.Problem)
	if n.Repository != "laptop" || n.Level != alert.Warning || !strings.Contains(n.Text, "more than 90 % of its quota") {
		t.Errorf("got %+v", n)
	}
	await(t, "the failure of the other", func() bool {
		_, out, _ := runHere(t, "alert", "list", "-d", data)
		return strings.Contains(out, "connection refused")
	}, s.errs)
	code, out, errs := runHere(t, "alert", "list", "-d", data)
	if code != 0 || !strings.Contains(out, "warning\tquota\tlaptop\t\t") || !strings.Contains(out, "hook\twebhook\t"+strings.TrimPrefix(h.URL, "http://")+"\t2") ||
		!strings.Contains(out, "gone\tslack\t127.0.0.1:1\tnever\t") || strings.Contains(out, "secret") {
		t.Errorf("list: got %d\n%s%s", code, out, errs)
	}

	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"hook"}, 0, []string{"hook (webhook): accepted\n"}},
		{nil, 1, []string{"hook (webhook): accepted\n", "gone (slack): failed: 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused\n", "mail (mail, b@test.example): failed: mail server 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused\n", "3 of 4 test messages could not be delivered"}},
		{[]string{"nobody"}, 1, []string{"has no such [[alert]]"}},
		{[]string{"--json", "hook"}, 0, []string{`"name": "hook"`}},
	} {
		code, out, errs := runHere(t, append([]string{"alert", "test", "-d", data}, test.args...)...)
		for _, want := range test.want {
			if code != test.code || !strings.Contains(out+errs, want) {
				t.Errorf("test %q: got %d\n%s%s, want %d and %q", test.args, code, out, errs, test.code, want)
			}
		}
	}
	h.await(t, "test", "", "")

	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("got %d", code)
	}
	if strings.Contains(s.errs.String(), "secret") {
		t.Errorf("the log has the secret of a URL:\n%s", s.errs)
	}
	for len(h.told) > 0 {
		<-h.told
	}
	s = startServer(t, dir, "-c", file)
	s.token = "t"
	await(t, "a look", func() bool {
		_, out, _ := runHere(t, "alert", "list", "-d", data, "--json")
		return strings.Contains(out, `"looked"`)
	}, s.errs)
	configure(10_000)
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	for late, told := time.After(time.Minute), false; !told; { // the first that is told of the quota after the restart is that it is over
		select {
		case m := <-h.told:
			for _, n := range m.Notices { // others are of a disk that is nearly full, for example
				if n.Kind != alert.Quota || told {
					continue
				}
				if told = true; n.Status != alert.Over {
					t.Errorf("got %+v", n)
				}
			}
		case <-late:
			t.Fatalf("nothing is told of the quota:\n%s", s.errs)
		}
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("got %d", code)
	}
}

// TestAlertFiles: a file of a secret that is not there ends a start, and changes nothing at a reload.
func TestAlertFiles(t *testing.T) {
	dir := tempDir(t)
	file, secret := filepath.Join(dir, "f.toml"), filepath.Join(dir, "hook.token")
	write(t, file, fmt.Sprintf("[server]\ntoken = 't'\n[[alert]]\nname = 'hook'\ntype = 'ntfy'\nurl = 'http://127.0.0.1:1/x'\ntoken_file = %q\n", secret))
	if code, _, errs := runHere(t, "serve", "-c", file, "-d", filepath.Join(dir, "d"), "-l", "127.0.0.1:0"); code != 1 || !strings.Contains(errs, `alert "hook": token_file: open `+secret) {
		t.Errorf("got %d %s", code, errs)
	}
	write(t, secret, "x")
	s := startServer(t, dir, "-c", file)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reload: alerts are sent as before")
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got %d", code)
	}
}

// TestJobsAreTold: the ends of jobs and of tasks of maintenance reach the alerts, with the name of the repository, and their next success does too.
func TestJobsAreTold(t *testing.T) {
	set := datadir.Open(datadir.Options{Dir: tempDir(t)})
	defer set.Close()
	repository, err := set.Create(t.Context(), "laptop", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	r := &components{set: set, alerts: alert.New(alert.Options{Config: alert.DefaultConfig()})}
	defer r.alerts.Close()
	job, task := r.jobEnded(), r.taskEnded()
	job(repository, compact.Job{Kind: compact.Scrub, State: compact.Failed, Fault: &compact.Fault{Message: "disk error"}})
	job(repository, compact.Job{Kind: compact.Compaction, State: compact.Unknown})
	job(repository, compact.Job{Kind: compact.Vacuum, State: compact.Done})
	task("laptop", "snapshot", errors.New("open /secret/path: no space"))
	task("laptop", "expiry", nil)
	got := ""
	for _, a := range r.alerts.State().Alerts {
		got += fmt.Sprintf("%s %s %s: %s\n", a.Kind, a.Repository, a.Subject, a.Text)
	}
	want := `job laptop compaction: the last compaction is unknown: packhouse job list shows it
job laptop scrub: the last scrub has failed: disk error; packhouse job list shows it
job laptop task snapshot: the last run of the maintenance task snapshot has failed: the server's log says why
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if none := (&components{}); none.jobEnded() != nil || none.taskEnded() != nil {
		t.Error("a process that sends no alerts wants to know of jobs")
	}
}

// TestCertificateAlert: a server whose certificate ends within hours says so.
func TestCertificateAlert(t *testing.T) {
	dir := tempDir(t)
	cert, key := selfSigned(t, dir) // for an hour
	data := filepath.Join(dir, "d")
	s := startServer(t, dir, "--data-dir", data, "--tls-cert", cert, "--tls-key", key)
	await(t, "the alert", func() bool {
		_, out, _ := runHere(t, "alert", "list", "-d", data)
		return strings.Contains(out, "critical\tcertificate\t")
	}, s.errs)
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("got %d", code)
	}
}
