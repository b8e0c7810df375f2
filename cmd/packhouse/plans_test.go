package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
)

// vger sends a request of V'Ger and returns the body of an answer that has status.
func (r *running) vger(t *testing.T, status int, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if i := strings.LastIndex(path, "/"); method == "PUT" && strings.Contains(path, "/packs/") {
		req.Header.Set("X-Content-BLAKE2b", path[i+1:])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: got %d %q, %v, want %d\n%s", method, path, resp.StatusCode, text, err, status, r.errs)
	}
	return string(text)
}

// pack stores a pack of one blob of 4 bytes and one of more, and returns its key.
func (r *running) pack(t *testing.T, repository, live string, dead int) string {
	t.Helper()
	body := "VGERPACK\x01\x04\x00\x00\x00" + live + string([]byte{byte(dead), byte(dead >> 8), 0, 0}) + strings.Repeat("x", dead)
	sum := blake2b.Sum256([]byte(body))
	name := hex.EncodeToString(sum[:])
	key := "packs/" + name[:2] + "/" + name
	r.vger(t, http.StatusCreated, "PUT", "/"+repository+"/"+key, body)
	return key
}

// repack sends a plan that keeps the first blob of each pack, or nothing.
func (r *running) repack(t *testing.T, repository string, keep bool, keys ...string) {
	t.Helper()
	blobs := ""
	if keep {
		blobs = `{"offset":13,"length":4}`
	}
	var operations []string
	for _, key := range keys {
		operations = append(operations, fmt.Sprintf(`{"source_pack":%q,"keep_blobs":[%s],"delete_after":true}`, key, blobs))
	}
	r.vger(t, http.StatusOK, "POST", "/"+repository+"?repack", `{"operations":[`+strings.Join(operations, ",")+`]}`)
}

// TestCompactionCommands: what the commands tell of a compaction of a V'Ger client, from the server's half to the
// client's, and of what is kept after it.
func TestCompactionCommands(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "d")
	write(t, filepath.Join(top, "f.toml"), "[server]\ntoken = 't'\ndata_dir = 'd'\ncompact_grace = '3h'\n")
	s := startServer(t, top, "-c", "f.toml")
	s.token = "t"
	ok := func(want string, args ...string) string {
		t.Helper()
		code, out, errs := runHere(t, append(args, "-d", data)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d, %s", args, code, errs)
		}
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%v: got\n%swant %q", args, out, want)
		}
		return out
	}
	fails := func(code int, want string, args ...string) {
		t.Helper()
		got, out, errs := runHere(t, append(args, "-d", data)...)
		if got != code || !strings.Contains(errs, want) {
			t.Errorf("%v: got exit code %d, %q %q; want %d, %q", args, got, out, errs, code, want)
		}
	}
	s.vger(t, http.StatusCreated, "PUT", "/laptop/index", "1")
	var packs []string
	for n := range 12 {
		packs = append(packs, s.pack(t, "laptop", fmt.Sprintf("%04d", n), 1000))
	}
	ok(`(?m)^kept +0 packs, 0 bytes; kept after compaction, deleted when disk space is needed\nreturned +0 bytes; .*\nopen plans +none\nstate +ok$`, "repo", "info", "laptop")
	ok(`^$`, "repo", "plans", "laptop")
	s.vger(t, http.StatusCreated, "PUT", "/laptop/locks/l.json", "{}")
	s.vger(t, http.StatusOK, "GET", "/laptop/index", "")
	s.repack(t, "laptop", true, packs[0], packs[1])

	id := regexp.MustCompile(`(?m)^(\w+)\tcompaction\tdone\t`).FindStringSubmatch(ok("", "job", "list", "-r", "laptop"))
	if id == nil {
		t.Fatal("no job is done")
	}
	const at = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+`
	ok(`(?m)^open plans +1, whose sources \(2042 bytes \(2 KiB\)\) stay until their clients have stored their index\n`+
		` +since `+at+` by token at 127.0.0.1: 2 packs, 2042 bytes \(2 KiB\); lock locks/l.json since `+at+`; job `+id[1]+`\nstate`, "repo", "info", "laptop")
	ok(`^1\t`+at+`\ttoken\t127.0.0.1\t2\t2042\tlocks/l.json\t`+at+`\t`+id[1]+`\n$`, "repo", "plans", "laptop")
	ok(`"detail": "waits for its client's index: 2 packs, 2042 bytes stay"`, "job", "show", "-r", "laptop", id[1])
	for _, pack := range packs[2:] {
		s.repack(t, "laptop", true, pack)
	}
	if info := ok(`(?m)^open plans +11, .*\n( +since .*\n){10} +and 1 more; packhouse repo plans shows all\n`, "repo", "info", "laptop"); strings.Count(info, " since ") != 20 {
		t.Errorf("repo info: got\n%s", info)
	}
	var plan struct {
		Packs, Bytes int
		Job          string
	}
	if lines := strings.Split(ok("", "repo", "plans", "laptop", "--json"), "\n"); len(lines) != 12 || json.Unmarshal([]byte(lines[0]), &plan) != nil || plan.Packs != 2 || plan.Job != id[1] {
		t.Errorf("repo plans --json: got %q", lines)
	}

	s.vger(t, http.StatusNoContent, "PUT", "/laptop/index", "2")
	ok(`"detail": "no longer open: `, "job", "show", "-r", "laptop", id[1])
	kept := ok(`(?m)^replaced\t`+packs[0]+`\t1021\t`, "trash", "list", "laptop", "--compactions")
	rows := strings.Split(strings.TrimSpace(kept), "\n")
	cells := strings.Split(rows[0], "\t")
	removed, err := time.Parse(time.RFC3339, cells[3])
	expires, expiresErr := time.Parse(time.RFC3339, cells[4])
	if err != nil || expiresErr != nil || expires.Sub(removed).Round(time.Minute) != 3*time.Hour {
		t.Errorf("compact_grace of 3h: got %s", rows[0])
	}
	ok(fmt.Sprintf(`(?m)^kept +%d packs, %d bytes`, len(rows), 1021*len(rows)), "repo", "info", "laptop")
	s.vger(t, http.StatusOK, "GET", "/laptop/"+packs[0], "")
	ok(`(?m)^returned +1021 bytes; removed by a compaction, and back as a client may need it$`, "repo", "info", "laptop")
	ok(`^removed 0 items`, "trash", "empty", "laptop", "--yes")
	fails(2, "nobody can confirm this", "trash", "empty", "laptop", "--compactions")
	fails(2, "--older-than cannot be used with --compactions", "trash", "empty", "laptop", "--compactions", "--older-than", "1h", "--yes")
	ok(fmt.Sprintf(`(?m)^kept +%d packs`, len(rows)-1), "repo", "info", "laptop")
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Fatalf("exit code of the server: %d", got)
	}
	// Without a server.
	ok(fmt.Sprintf(`^deleted %d packs kept after compactions, %d bytes`, len(rows)-1, 1021*(len(rows)-1)), "trash", "empty", "laptop", "--compactions", "--yes")
	ok(`^$`, "trash", "list", "laptop", "--compactions")
	ok(`(?m)^kept +0 packs`, "repo", "info", "laptop")
	var emptied struct{ Items, Bytes *int64 }
	if text := ok("", "trash", "empty", "laptop", "--compactions", "--yes", "--json"); json.Unmarshal([]byte(text), &emptied) != nil || emptied.Items == nil || *emptied.Items != 0 {
		t.Errorf("trash empty --compactions --json: got %s", text)
	}
}

// TestCompactYoung: a client of which it is not known when it read the index removes as unused what is older than
// compact_young of its repository.
func TestCompactYoung(t *testing.T) {
	top := tempDir(t)
	write(t, filepath.Join(top, "f.toml"), "[server]\ntoken = 't'\ndata_dir = 'd'\n[[repository]]\nname = 'brave'\ncompact_young = '1s'\n[[repository]]\nname = 'cautious'\n")
	s := startServer(t, top, "-c", "f.toml")
	s.token = "t"
	packs := make(map[string]string)
	for _, name := range []string{"brave", "cautious"} {
		s.vger(t, http.StatusCreated, "PUT", "/"+name+"/index", "1")
		packs[name] = s.pack(t, name, "dead", 10)
	}
	time.Sleep(1100 * time.Millisecond)
	for name, want := range map[string]bool{"brave": false, "cautious": true} {
		s.repack(t, name, false, packs[name])
		if list := s.vger(t, http.StatusOK, "GET", "/"+name+"/packs/?list", ""); strings.Contains(list, packs[name]) != want {
			t.Errorf("%s: got %s, want the pack %v", name, list, want)
		}
	}
}
