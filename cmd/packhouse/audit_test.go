package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// auditLine is a line of an audit log.
type auditLine struct {
	What, Outcome, Principal, Repository, Key, Operation string
	Local                                                bool
	Items                                                int
}

func (l auditLine) String() string {
	who := l.Principal
	if l.Local {
		who += " (local)"
	}
	return strings.Join(strings.Fields(strings.Join([]string{l.What, l.Outcome, who, l.Repository, l.Key, l.Operation}, " ")), " ")
}

// auditLines are the lines of a log that belong to the audit log.
func auditLines(t testing.TB, text string) (all []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l struct {
			auditLine
			Msg string
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if l.Msg == "audit" {
			all = append(all, l.String())
		}
	}
	return all
}

func compareLines(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d: got %q, want %q", i+1, g, w)
		}
	}
}

// TestAuditFile: what both protocols, the administration and commands change is in the file, also what a command changes while
// no server runs.
func TestAuditFile(t *testing.T) {
	dir, logs := tempDir(t), tempDir(t)
	file := filepath.Join(logs, "audit.log")
	write(t, filepath.Join(dir, "f.toml"), "[server]\ndata_dir = 'd'\naudit_log = '"+file+"'\n")
	s := startServer(t, dir, "--config", "f.toml")
	data, own := filepath.Join(dir, "d"), s.token
	s.expect(t, http.StatusOK, "POST", "/laptop?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/config/manifest", "one")
	s.expect(t, http.StatusOK, "POST", "/laptop/config/manifest", "one")
	s.expect(t, http.StatusOK, "POST", "/laptop/config/manifest", "two")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/a", "bytes of a")
	s.token = issueToken(t, "-d", data, "--repo", "laptop", "--role", "backup")
	s.expect(t, http.StatusForbidden, "DELETE", "/laptop/packs/a", "")
	s.expect(t, http.StatusForbidden, "POST", "/laptop/packs/a", "other bytes")
	s.token = own
	s.expect(t, http.StatusOK, "POST", "/laptop?cmd=move&current=packs/a&new=packs/b", "")
	s.expect(t, http.StatusOK, "DELETE", "/laptop/packs/b", "")
	administer(t, s, http.StatusOK, "POST", "/laptop/-/compactions?dry_run=yes", `{"operations": [{"delete": ["config/manifest"]}]}`)
	commandWorks(t, "repo", "quota", "laptop", "1G", "-d", data)
	administer(t, s, 201, "PUT", "/vault/index", "1")
	administer(t, s, 204, "PUT", "/vault/index", "1")
	administer(t, s, 204, "PUT", "/vault/index", "2")
	administer(t, s, 204, "POST", "/vault?batch-delete", `["index", "snapshots/x"]`)
	administer(t, s, 404, "DELETE", "/vault/snapshots/x", "")
	commandWorks(t, "token", "revoke", "laptop-backup", "-d", data)
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code: got %d\n%s", got, s.errs)
	}
	commandWorks(t, "repo", "quota", "laptop", "default", "-d", data)

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, auditLines(t, string(text)), []string{
		"overwrite done token laptop config/manifest store",
		"overwrite done token laptop config/manifest store",
		"token done local (local) laptop-backup create-token",
		"delete refused laptop-backup laptop packs/a delete",
		"write refused laptop-backup laptop packs/a store",
		"rename done token laptop packs/a -> packs/b move",
		"delete done token laptop packs/b delete",
		"setting done local (local) laptop set-quota",
		"overwrite done token vault index store",
		"overwrite done token vault index store",
		"delete done token vault batch-delete",
		"token done local (local) laptop-backup revoke-token",
		"setting done (local) reload",
		"setting done local (local) laptop set-quota",
	})
	if strings.Contains(s.errs.String(), "audit") {
		t.Errorf("the log has lines of the audit log:\n%s", s.errs)
	}
}

// TestAuditInTheLog: without a file the lines are in the log, whatever its level, unless they are not wanted.
func TestAuditInTheLog(t *testing.T) {
	for text, want := range map[string]int{"": 1, "audit_log = 'log'\n": 1, "audit_log = 'off'\n": 0} {
		dir := tempDir(t)
		write(t, filepath.Join(dir, "f.toml"), "[server]\nlog_format = 'json'\nlog_level = 'error'\n"+text)
		s := startServer(t, dir, "--config", "f.toml")
		s.expect(t, http.StatusOK, "POST", "/laptop?cmd=create", "")
		s.expect(t, http.StatusOK, "POST", "/laptop/packs/a", "bytes of a")
		s.expect(t, http.StatusOK, "DELETE", "/laptop/packs/a", "")
		if got := s.stop(t, syscall.SIGTERM); got != 0 {
			t.Fatalf("exit code: got %d\n%s", got, s.errs)
		}
		if got := auditLines(t, s.errs.String()); len(got) != want {
			t.Errorf("%q: got %q, want %d lines", text, got, want)
		}
	}
}

// TestAuditRefused: an audit log that cannot be is an error of the start.
func TestAuditRefused(t *testing.T) {
	dir := tempDir(t)
	for path, want := range map[string]string{
		filepath.Join(dir, "d", "audit.log"):            "is in the data directory",
		filepath.Join(dir, "d", "x", "..", "audit.log"): "is in the data directory",
		filepath.Join(dir, "none", "audit.log"):         "audit log: open",
		dir:                                             "audit log: open",
		"of":                                            `did you mean "off"?`,
	} {
		write(t, filepath.Join(dir, "f.toml"), "[server]\ndata_dir = '"+filepath.Join(dir, "d")+"'\nlisten = '127.0.0.1:0'\naudit_log = '"+path+"'\n")
		if code, _, errs := runHere(t, "serve", "--config", filepath.Join(dir, "f.toml")); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: got %d, %q; want %q", path, code, errs, want)
		}
		if code, _, errs := runHere(t, "config", "check", filepath.Join(dir, "f.toml")); !strings.HasPrefix(want, "audit log: open") && (code != 1 || !strings.Contains(errs, want)) {
			t.Errorf("check of %s: got %d, %q; want %q", path, code, errs, want)
		}
	}
}
