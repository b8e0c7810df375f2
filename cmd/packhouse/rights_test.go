package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRightsOfQueuedJobs: a reload takes from a queued job what it takes from the client, and nothing from the
// administrator's.
func TestRightsOfQueuedJobs(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "f.toml")
	server := "[server]\ntoken = 't'\ndata_dir = 'd'\n"
	write(t, file, server+"[[user]]\nname = 'alice'\npassword_hash = '"+hashOf(t, "secret")+"'\n")
	s := startServer(t, dir, "--config", file)
	s.token = "t"
	for _, name := range []string{"closed", "open"} {
		s.expect(t, http.StatusOK, "POST", "/"+name+"/?cmd=create", "")
		for _, key := range []string{"token", "alice", "local"} {
			s.expect(t, http.StatusOK, "POST", "/"+name+"/packs/"+key, "12345")
		}
	}
	plan := func(key string) string { return fmt.Sprintf(`{"operations":[{"delete":["packs/%s"]}]}`, key) }
	at := time.Now().Add(4 * time.Second).UTC().Format(time.RFC3339Nano)
	ask := func(user, password, method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(user, password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for _, name := range []string{"closed", "open"} {
		for user, password := range map[string]string{"token": "t", "alice": "secret"} {
			status, text := ask(user, password, "POST", "/"+name+"/-/compactions?when="+url.QueryEscape(at), plan(user))
			if status != http.StatusAccepted {
				t.Fatalf("%s submits: got %d %s", user, status, text)
			}
		}
		local := filepath.Join(dir, "plan.json")
		write(t, local, plan("local"))
		if code, out, errs := runHere(t, "compact", "-d", filepath.Join(dir, "d"), "--repo", name, "--plan", local, "--when", at); code != 0 {
			t.Fatalf("the administrator submits: got %d %s%s", code, out, errs)
		}
	}
	write(t, file, server+"[[repository]]\nname = 'closed'\nappend_only = true\n") // and alice is gone
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.errs.await(t, "reloaded the configuration")
	jobs := func(name string) string {
		_, text := ask("token", "t", "GET", "/"+name+"/-/jobs", "")
		return text
	}
	await(t, "the jobs", func() bool {
		return !strings.Contains(jobs("closed")+jobs("open"), "queued") && !strings.Contains(jobs("closed")+jobs("open"), "running")
	}, s.errs)
	for path, want := range map[string]int{
		"/closed/packs/token": http.StatusOK, "/closed/packs/alice": http.StatusOK, "/closed/packs/local": http.StatusNotFound,
		"/open/packs/token": http.StatusNotFound, "/open/packs/alice": http.StatusOK, "/open/packs/local": http.StatusNotFound,
	} {
		s.expect(t, want, "GET", path, "")
	}
	if text := jobs("closed"); strings.Count(text, "have changed since the job was submitted") != 2 {
		t.Errorf("jobs: got %s", text)
	}
}
