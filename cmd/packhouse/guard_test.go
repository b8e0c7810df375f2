package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestGuardCommands: rules come from the configuration, hold for all but administrators, are shown, and are lifted on the server only; without a
// server as with one.
func TestGuardCommands(t *testing.T) {
	top := t.TempDir()
	file, data := filepath.Join(top, "f.toml"), filepath.Join(top, "data")
	audit := filepath.Join(top, "audit.log")
	write(t, file, "[server]\ndata_dir = '"+data+"'\naudit_log = '"+audit+"'\nmin_age = '7d'\n[[repository]]\nname = 'laptop'\nguard = 'refuse'\nkeep_last = 3\nmax_removed = '50%'\n")
	s := startServer(t, top, "-c", file)
	if code, text := request(t, http.DefaultClient, s.token, "POST", s.url+"/laptop/?cmd=create", ""); code != 200 {
		t.Fatalf("create: %d %s", code, text)
	}
	maintain, root := issueToken(t, "--repo", "laptop", "--role", "maintain", "-d", data), issueToken(t, "--repo", "laptop", "--role", "admin", "-d", data)
	for _, name := range []string{"1", "2", "3"} {
		if code, text := request(t, http.DefaultClient, maintain, "POST", s.url+"/laptop/archives/"+name, "an archive"); code != 200 {
			t.Fatalf("store: %d %s", code, text)
		}
	}
	for _, secret := range []string{maintain, s.token} {
		if code, text := request(t, http.DefaultClient, secret, "DELETE", s.url+"/laptop/archives/1", ""); code != 403 {
			t.Errorf("removal of a young snapshot: %d %s", code, text)
		}
	}
	if code, text := request(t, http.DefaultClient, root, "DELETE", s.url+"/laptop/archives/1", ""); code != 200 {
		t.Errorf("removal by an administrator: %d %s", code, text)
	}
	if code, text := request(t, http.DefaultClient, s.token, "DELETE", s.url+"/laptop/?cmd=destroy", ""); code != 403 || !strings.Contains(text, "refused by") {
		t.Errorf("destroy: %d %s", code, text)
	}
	var show string
	await(t, "a fresh look at what is held", func() bool {
		show = commandWorks(t, "guard", "show", "laptop", "-d", data)
		return strings.Contains(show, "held         what was removed since")
	})
	for _, want := range []string{
		"min_age      7d", "guard        refuse", "keep_last    3 of each user", "max_removed  1 snapshots within a day; 0 were", "lifted       no", "grace        7d",
		"by min_age since",
	} {
		if !strings.Contains(show, want) {
			t.Errorf("guard show lacks %q:\n%s", want, show)
		}
	}
	administer(t, s, 403, "PUT", "/laptop/-/guard/lift", `{"seconds": 60}`)
	for _, args := range [][]string{{"guard", "lift", "laptop"}, {"guard", "lift", "laptop", "--for", "8d"}, {"guard", "lift", "laptop", "--for", "1h", "--end"}} {
		if code, out, errs := runHere(t, append(args, "-d", data)...); code != 2 || out != "" || !strings.Contains(errs, "--for") {
			t.Errorf("%q: got %d, %q, %q", args, code, out, errs)
		}
	}
	if code, _, errs := runHere(t, "guard", "lift", "none", "--for", "1h", "-d", data); code != 1 || !strings.Contains(errs, "no such repository") {
		t.Errorf("lift of an unknown repository: %d, %q", code, errs)
	}
	if out := commandWorks(t, "guard", "lift", "laptop", "--for", "1h", "-d", data); !strings.Contains(out, "lifted       until ") {
		t.Errorf("guard lift:\n%s", out)
	}
	if code, text := request(t, http.DefaultClient, maintain, "DELETE", s.url+"/laptop/archives/2", ""); code != 200 {
		t.Errorf("removal while the guard is lifted: %d %s", code, text)
	}
	s.stop(t, syscall.SIGTERM)
	text, err := os.ReadFile(audit)
	if err != nil || !strings.Contains(string(text), `"operation":"lift-guard"`) || strings.Count(string(text), "refused by min_age") < 2 {
		t.Errorf("audit log: %v\n%s", err, text)
	}
	commandWorks(t, "guard", "lift", "laptop", "--end", "-d", data)
	if show = commandWorks(t, "guard", "show", "laptop", "-d", data); !strings.Contains(show, "lifted       no") || !strings.Contains(show, "guard        refuse") {
		t.Errorf("without a server:\n%s", show)
	}
}

// Rules that cannot be, and their flags.
func TestGuardSettings(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--guard refuse", `guard = "refuse" refuses the removal of snapshots younger than min_age, which is not set`},
		{"--guard maybe", `--guard: "maybe" is not "keep"`},
		{"--max-removed 0", `--max-removed: "0" is not a number of snapshots above 0`},
		{"--max-removed 101%", `--max-removed: "101%" is not`},
		{"--keep-last -1", "--keep-last: expected a number from 0"},
		{"--protect 1h", `--protect: "1h" is too short; the minimum is 48h0m0s`},
		{"--min-age soon", `--min-age: "soon" is not a duration`},
	} {
		code, _, errs := runHere(t, append([]string{"serve", "-d", filepath.Join(t.TempDir(), "data")}, strings.Fields(tt.args)...)...)
		if code == 0 || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: got %d, %q, want %q", tt.args, code, errs, tt.want)
		}
	}
}
