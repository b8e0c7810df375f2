package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestJSON: with --json commands print JSON and nothing else, in the same form beside a server and over the network.
func TestJSON(t *testing.T) {
	dir := tempDir(t)
	s := startServer(t, dir, "--grace", "1d")
	t.Setenv("PACKHOUSE_TOKEN", s.token)
	users := filepath.Join(dir, "users")
	for _, where := range [][]string{{"-d", filepath.Join(dir, "packhouse-data")}, {"--server", s.url}} {
		call := func(want string, args ...string) {
			t.Helper()
			if args[0] != "user" {
				args = append(args, where...)
			}
			code, out, errs := runWithInput(t, "password\n", append(args, "--json")...)
			decoder := json.NewDecoder(strings.NewReader(out))
			var err error
			for documents := 0; err == nil; documents++ {
				var document any
				if err = decoder.Decode(&document); errors.Is(err, io.EOF) && documents == 0 && want != "" {
					t.Errorf("%q prints nothing", args)
				}
			}
			if code != 0 || !errors.Is(err, io.EOF) || !strings.Contains(out, want) || strings.Contains(out, "0001-01-01") {
				t.Errorf("%q: got %d, %v, %s%s, want JSON with %q", args, code, err, out, errs, want)
			}
		}
		call(`"created": "laptop"`, "repo", "create", "laptop", "--dialect", "borgstore")
		s.expect(t, http.StatusOK, http.MethodPost, "/laptop/packs/one", "bytes")
		call(`"name": "laptop"`, "repo", "list")
		call(`"items": 1`, "repo", "info", "laptop")
		call(`"key":"packs/one"`, "repo", "history", "laptop")
		call(`"until": "2`, "repo", "salvage", "laptop", "--for", "1h")
		call(`{}`, "repo", "salvage", "laptop", "--off")
		call("\"items\": 0,\n  \"bytes\": 0,\n  \"keys\": [],\n  \"total\": 1,\n  \"shards\": [],", "repo", "accept-loss", "laptop", "--dry-run")
		call(`"marked": 0`, "repo", "accept-loss", "laptop", "--yes")
		call(`"locks": []`, "lock", "list", "laptop")
		call(`"broken": []`, "lock", "break", "laptop", "--stale")
		call(`"name": "laptop-read"`, "token", "create", "--repo", "laptop", "--role", "read")
		call(`"revoked": "laptop-read"`, "token", "revoke", "laptop-read")
		call(`"state": "done"`, "scrub", "--repo", "laptop", "--wait")
		call("{\n  \"repository\": \"laptop\",\n  \"jobs\": [", "job", "list")
		call(`"destroyed": "laptop"`, "repo", "destroy", "laptop", "--yes")
		call(`"added": "alice"`, "user", "add", "alice", "-f", users)
		call(`"changed": "alice"`, "user", "passwd", "alice", "-f", users)
		call(`"removed": "alice"`, "user", "remove", "alice", "-f", users)
	}
}
