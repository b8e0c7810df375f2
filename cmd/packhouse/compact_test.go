package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCompaction runs the commands for jobs against a server, far and near, and then against its directory.
func TestCompaction(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data)
	plan := filepath.Join(top, "plan.json")
	text := `{"operations":[{"ranges":[["packs/a",1,3]],"name":{"algorithm":"sha256","prefix":"packs"},"delete":["packs/a"]}]}`
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/a", "aAAAa")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/b", "bBBBb")

	call := func(code int, want string, args ...string) string {
		t.Helper()
		got, out, errs := runHere(t, args...)
		if got != code || !regexp.MustCompile(want).MatchString(out+errs) {
			t.Errorf("%v: got exit code %d\n%s%s\nwant %d, %q", args, got, out, errs, code, want)
		}
		return out
	}
	here := func(args ...string) []string { return append(args, "-d", data, "--repo", "laptop") }
	call(2, "--plan is missing", here("compact")...)
	call(2, "--when must be now", here("compact", "--plan", plan, "--when", "tonight")...)
	call(1, "no such file", here("compact", "--plan", plan+"x")...)
	call(2, "--repo NAME is missing", "compact", "--plan", plan, "-d", data)
	call(0, "1 operations make 1 items: 3 bytes read, 3 bytes written, 5 bytes freed; the repository shrinks by 2 bytes",
		here("compact", "--plan", plan, "--dry-run")...)
	call(1, "within the next 168h", here("compact", "--plan", plan, "--when", "2099-01-02T03:04:05+02:00")...)
	later := time.Now().Add(100 * time.Hour).UTC().Format("2006-01-02T15:04:05Z")
	id := strings.Fields(call(0, `^[0-9a-f]{32} queued\n`, here("compact", "--plan", plan, "--when", later)...))[0]
	call(0, id+`\tcompaction\tqueued\t`+later+`\t`, here("job", "list")...)
	call(0, id+`\tcompaction\tqueued\t.*\tlaptop\n`, "job", "list", "-d", data)
	call(0, `"id": "`+id, "job", "list", "-d", data, "--json")
	call(0, id+` cancelled`, here("job", "cancel", id)...)
	call(1, "job has ended", here("job", "cancel", id)...)
	call(1, "cancelled", here("job", "wait", id)...)
	call(1, "not found", here("job", "show", "no/such job")...)
	call(0, id+` done: 1 operations, 3 bytes read, 3 bytes written, 5 bytes freed`, here("compact", "--plan", plan, "--wait")...)
	call(0, `"state": "done"`, here("job", "show", id)...)
	s.expect(t, http.StatusOK, "GET", "/laptop/packs/cb1ad2119d8fafb69566510ee712661f9f14b83385006ef92aec47f523a38358", "")

	bad := filepath.Join(top, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"operations":[{"delete":["x"]},{"ranges":[["packs/b",3,3]],"target":"t"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	call(1, `operation 1, range 0 \(packs/b\)`, here("compact", "--plan", bad, "--wait")...)
	info := []string{"repo", "info", "laptop", "-d", data}
	call(0, `(?m)^scrubbed +nothing yet; oldest unverified byte: from 20`, info...)
	call(0, `done: 2 items, 8 bytes read, 0 damaged`, here("scrub", "--wait")...)
	call(0, `(?m)^scrubbed +2 of 2 items, 8 bytes of 8 bytes, since (20\S+); oldest unverified byte: from 20`, info...)

	// From afar, with the token.
	t.Setenv("PACKHOUSE_TOKEN", s.token)
	call(0, id, "job", "list", "--server", s.url, "--repo", "laptop")
	call(2, "must be a URL", "job", "list", "--server", "backup.example", "--repo", "laptop")
	t.Setenv("PACKHOUSE_TOKEN", "wrong")
	call(1, "does not know this token", "job", "list", "--server", s.url, "--repo", "laptop")

	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code of the server: %d", got)
	}
	// Without a server the command does the work itself.
	var job struct{ State string }
	if err := json.Unmarshal([]byte(call(0, "", here("job", "show", id)...)), &job); err != nil || job.State != "done" {
		t.Errorf("job after the restart: got %+v, %v", job, err)
	}
	if err := os.WriteFile(plan, []byte(`{"operations":[{"ranges":[["packs/b",1,3]],"target":"c","delete":["packs/b"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	call(0, `done: 1 operations`, here("compact", "--plan", plan)...)

	// The index is lost, and made again.
	if err := os.Remove(filepath.Join(data, "laptop", "index.db")); err != nil {
		t.Fatal(err)
	}
	call(3, "laptop: the index is lost; packhouse repo rebuild laptop", "check", "-d", data)
	call(0, "build a new one with packhouse repo rebuild laptop", "repo", "list", "-d", data)
	call(3, `"repository":"laptop","problem":"the index is lost`, "check", "laptop", "--json", "-d", data)
	call(2, "there is no repository", "repo", "rebuild", "nothing", "-d", data)
	call(0, `rebuilt from no snapshot: 2 items, 6 bytes.* 2 recovered`, "repo", "rebuild", "laptop", "-d", data)
	call(1, "has an index; use --replace", "repo", "rebuild", "laptop", "-d", data)
	call(0, `"recovered": 2`, "repo", "rebuild", "laptop", "-d", data, "--replace", "--json")
	call(0, `laptop: 2 items in the index, 6 bytes read, 0 problems`, "check", "laptop", "--verify", "-d", data)
}

// A stop does not wait for who watches a job, the job starts over with the next server, and the command that
// waits for it goes on waiting.
func TestWaitOverRestart(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	slow := filepath.Join(top, "slow.toml")
	plan := filepath.Join(top, "plan.json")
	for file, text := range map[string]string{
		slow: "[maintenance]\nrate = \"1M\"\n",
		plan: `{"operations":[{"ranges":[["packs/a",0,8000000]],"target":"packs/b","delete":["packs/a"]}]}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, top, "--data-dir", data, "--config", slow)
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/packs/a", strings.Repeat("a", 8_000_001))
	wait := launch(t, program(t, top, "packhouse", "compact", "--plan", plan, "--wait", "-d", data, "--repo", "laptop"))
	wait.errs.await(t, `running`)
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code of the server: %d\n%s", code, s.errs)
	}
	s = startServer(t, top, "--data-dir", data)
	if code := wait.code(t); code != 0 || !strings.Contains(wait.out.String(), "done: 1 operations") {
		t.Errorf("compact --wait: exit code %d\n%s%s", code, wait.out, wait.errs)
	}
	s.expect(t, http.StatusOK, "GET", "/laptop/packs/b", "")
}
