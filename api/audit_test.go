package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
)

// auditFile is where an audit log is written, and can be made to fail.
type auditFile struct {
	mu   sync.Mutex
	b    bytes.Buffer
	fail error
	hold chan struct{} // a Write waits until it is closed; nil: none does
}

func (f *auditFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return 0, f.fail
	}
	return f.b.Write(p)
}

func (f *auditFile) set(fail error, hold chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.hold = fail, hold
}

// auditLine is one line of the log.
type auditLine struct {
	Time                                                                       time.Time
	Msg, What, Outcome, Principal, Remote, Repository, Key, Dialect, Operation string
	Local                                                                      bool
	Status, Items, Lines                                                       int
	Keys                                                                       []string
	Reason, Request                                                            string
}

// lines are all that were written, those of requests that have ended included.
func (f *auditFile) lines(t *testing.T, of *apitest.Fixture) (all []auditLine) {
	t.Helper()
	of.Logged(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	for text := range strings.Lines(f.b.String()) {
		var line auditLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, line)
	}
	return all
}

// audited is a dialect whose requests say what they did: the path is the operation, the query the status.
func audited() api.Dialect {
	return echo{name: "plain", serve: func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
		target.Log.Operation = strings.TrimPrefix(target.Path, "/")
		target.Log.Key, target.Log.Reason = "packs/key", "why"
		status := map[string]int{"": 200, "403": 403, "404": 404, "409": 409, "500": 500, "507": 507}[target.Query]
		switch target.Log.Operation {
		case "overwrite":
			target.Log.Operation, target.Log.Replaced = "store", true
		case "hash":
			target.Log.Reads = true
		case "batch-delete":
			for i := range 150 {
				target.Log.Keys = append(target.Log.Keys, "packs/"+itoa(i))
			}
		case "cut":
			target.Log.Operation = "rollback"
			w.WriteHeader(http.StatusOK)
			api.Cut(r, errors.New("the disk is gone"))
		}
		api.WriteText(w, r, status, "")
		return true
	}}
}

func TestAuditLog(t *testing.T) {
	file := &auditFile{}
	f := startEcho(t, api.Options{
		Dialects: []api.Dialect{audited()}, Audit: slog.NewJSONHandler(file, nil),
		Auth: newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "laptop", Secret: "0123456789abcdef0123456789abcdef"}}}),
	})
	trusted := f.Serve(t, f.Server, true)
	auth := []string{"Authorization", "Bearer 0123456789abcdef0123456789abcdef", "X-Packhouse-Principal", "somebody else"}
	for _, test := range []struct {
		method, target string
		what, outcome  string // "": no line
	}{
		{"POST", "/r/store", "", ""}, {"POST", "/r/overwrite", "overwrite", "done"}, {"POST", "/r/store?403", "write", "refused"},
		{"POST", "/r/store?507", "write", "refused"}, {"POST", "/r/mkdir?403", "write", "refused"}, {"POST", "/r/store?500", "", ""},
		{"DELETE", "/r/delete", "delete", "done"}, {"DELETE", "/r/delete?403", "delete", "refused"}, {"DELETE", "/r/delete?404", "", ""},
		{"DELETE", "/r/delete?500", "delete", "failed"}, {"DELETE", "/r/destroy", "delete", "done"}, {"DELETE", "/r/destroy?409", "delete", "failed"},
		{"POST", "/r/batch-delete", "delete", "done"}, {"POST", "/r/move", "rename", "done"}, {"POST", "/r/defrag", "plan", "done"},
		{"POST", "/r/repack?403", "plan", "refused"}, {"POST", "/r/break-lock", "lock-break", "done"}, {"POST", "/r/create-token", "token", "done"},
		{"PUT", "/r/set-quota", "setting", "done"}, {"POST", "/r/restore", "restore", "done"}, {"POST", "/r/hash?403", "", ""},
		{"GET", "/r/load?403", "", ""}, {"HEAD", "/r/stat?403", "", ""},
	} {
		before := len(file.lines(t, f))
		get(t, f.Addr, test.method, test.target, auth...)
		lines := file.lines(t, f)[before:]
		if test.what == "" {
			if len(lines) > 0 {
				t.Errorf("%s %s: got %+v, want no line", test.method, test.target, lines)
			}
			continue
		}
		if len(lines) != 1 {
			t.Fatalf("%s %s: got %d lines, want one", test.method, test.target, len(lines))
		}
		got := lines[0]
		if got.What != test.what || got.Outcome != test.outcome || got.Msg != "audit" || time.Since(got.Time) > time.Minute {
			t.Errorf("%s %s: got %+v, want %s %s", test.method, test.target, got, test.what, test.outcome)
		}
		if got.Principal != "laptop" || got.Local || got.Remote != "127.0.0.1" || got.Repository != "r" || got.Key != "packs/key" || got.Reason != "why" || got.Dialect != "plain" || got.Status == 0 || got.Request == "" {
			t.Errorf("%s %s: got %+v", test.method, test.target, got)
		}
		if many := got.Operation == "batch-delete"; many && (got.Items != 150 || len(got.Keys) != 100 || got.Keys[99] != "packs/99") || !many && got.Items != 0 {
			t.Errorf("%s %s: got %d items, %d keys", test.method, test.target, got.Items, len(got.Keys))
		}
	}
	if log := f.Logged(t); strings.Contains(log, "msg=audit") {
		t.Error("the request log has lines of the audit log")
	}

	before := len(file.lines(t, f))
	get(t, f.Addr, "DELETE", "/r/delete", "Authorization", "Bearer nonsense")
	get(t, trusted, "DELETE", "/r/delete", "X-Packhouse-Principal", "root")
	r, err := http.NewRequest("POST", "http://"+f.Addr+"/r/cut", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(auth[0], auth[1])
	if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
		response.Body.Close()
	}
	f.Server.AuditSetting("reload")
	lines := file.lines(t, f)[before:]
	if len(lines) != 4 {
		t.Fatalf("got %+v", lines)
	}
	if l := lines[0]; l.Outcome != "refused" || l.Status != 401 || l.Principal != "" || l.Reason != "wrong credentials" {
		t.Errorf("without a login: %+v", l)
	}
	if l := lines[1]; l.Principal != "root" || !l.Local || l.What != "delete" {
		t.Errorf("from this machine: %+v", l)
	}
	if l := lines[2]; l.What != "restore" || l.Outcome != "failed" {
		t.Errorf("cut short: %+v", l)
	}
	if l := lines[3]; l.What != "setting" || l.Operation != "reload" || !l.Local {
		t.Errorf("settings: %+v", l)
	}
}

// TestAuditLogHoldsNobody: a log that cannot be written delays no request; what is lost is counted, in the log, the metrics and
// the other log.
func TestAuditLogHoldsNobody(t *testing.T) {
	file := &auditFile{}
	f := startEcho(t, api.Options{Dialects: []api.Dialect{audited()}, Audit: slog.NewJSONHandler(file, nil), OpenMetrics: true})
	hold := make(chan struct{})
	file.set(nil, hold)
	for range 20 {
		if response, _ := get(t, f.Addr, "DELETE", "/r/delete"); response.StatusCode != 200 {
			t.Fatal(response.Status)
		}
	}
	close(hold)
	file.set(nil, nil)
	if got := len(file.lines(t, f)); got != 20 {
		t.Errorf("%d lines, want 20", got)
	}
	file.set(errors.New("no space left on device"), nil)
	for range 3 {
		get(t, f.Addr, "DELETE", "/r/delete")
	}
	f.Logged(t)
	file.set(nil, nil)
	get(t, f.Addr, "DELETE", "/r/delete")
	lines := file.lines(t, f)
	if got := lines[len(lines)-1]; len(lines) != 22 || got.Lines != 3 || !strings.Contains(got.Msg, "were lost") {
		t.Errorf("%d lines, the last %+v", len(lines), got)
	}
	if _, text := get(t, f.Addr, "GET", "/metrics"); !strings.Contains(text, "packhouse_audit_lines_lost_total 3\n") {
		t.Error("the metrics do not count them")
	}
	if !strings.Contains(f.Logged(t), "lines of the audit log were lost") {
		t.Error("the log does not tell")
	}
}
