package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLossCommands: what an administrator sees of a loss that is not believed, and how it is accepted, forgotten, and
// damage salvaged.
func TestLossCommands(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data)
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	for i := range 40 {
		s.expect(t, http.StatusOK, "POST", fmt.Sprintf("/laptop/packs/%d", i), fmt.Sprint("hello ", i, strings.Repeat(".", smallItems))) // in files
	}
	call := func(code int, out, errs string, args ...string) {
		t.Helper()
		gotCode, gotOut, gotErrs := runHere(t, append(args, "-d", data)...)
		if gotCode != code || !regexp.MustCompile("(?s)"+out).MatchString(gotOut) || !regexp.MustCompile(errs).MatchString(gotErrs) {
			t.Errorf("%v: got exit code %d\n%s%s\nwant %d, %q, %q", args, gotCode, gotOut, gotErrs, code, out, errs)
		}
	}
	page := func(path string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	health := func(status string, missing, damaged float64, reason string) {
		t.Helper()
		var h map[string]any
		if err := json.Unmarshal([]byte(page("/health")), &h); err != nil {
			t.Fatal(err)
		}
		got, _ := h["reason"].(string)
		if h["status"] != status || h["missing_items"] != missing || h["damaged_items"] != damaged || !strings.Contains(got, reason) {
			t.Errorf("health: got %v, want %s, %v missing, %v damaged, %q", h, status, missing, damaged, reason)
		}
	}
	metric := func(want string) {
		t.Helper()
		if text := page("/metrics"); !strings.Contains(text, want+"\n") {
			t.Errorf("metrics have no %s", want)
		}
	}
	files, err := filepath.Glob(filepath.Join(data, "laptop", "blobs", "*", strings.Repeat("?", 32)))
	if err != nil || len(files) != 40 {
		t.Fatal(len(files), err)
	}
	call(0, `laptop: 40 items in the index, 0 problems`, `^$`, "check")
	for _, name := range files[:30] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	call(3, `laptop: the files of 30 of 40 items are missing: .*accept-loss.*1 problems`, `damage was found`, "check")
	health("degraded", 0, 0, "30 of 40")
	s.expect(t, http.StatusServiceUnavailable, "GET", "/laptop/packs/", "")
	s.expect(t, http.StatusServiceUnavailable, "POST", "/laptop/packs/new", "new")
	call(0, `read-only: the files of 30`, `^$`, "repo", "list")
	call(0, `missing: packs/.*laptop: 30 of 40 items are missing`, `^$`, "repo", "accept-loss", "laptop", "--dry-run")
	call(2, `30 of 40`, `--yes accepts without asking`, "repo", "accept-loss", "laptop")
	s.expect(t, http.StatusServiceUnavailable, "GET", "/laptop/packs/", "")
	call(0, `laptop: 30 items marked as missing, 0 rows removed`, `^$`, "repo", "accept-loss", "laptop", "--yes")
	if text := s.expect(t, http.StatusOK, "GET", "/laptop/packs/", ""); strings.Count(text, `"name"`) != 10 {
		t.Errorf("what is left: %s", text)
	}
	call(3, `packs/\d+: its file is missing.*30 problems`, `damage was found`, "check")
	call(0, `lost +30 items missing, \d{7} bytes \(3\.\d+ MiB\); 0 damaged\nstate +degraded: `, `^$`, "repo", "info", "laptop")
	health("degraded", 30, 0, "30 missing")
	metric(`packhouse_repository_missing_items{repository="laptop"} 30`)
	call(0, `0 items marked as missing, 30 rows removed`, `^$`, "repo", "accept-loss", "laptop", "--forget", "--yes")
	call(0, `laptop: 10 items in the index, 0 problems`, `^$`, "check")
	health("ok", 0, 0, "")

	flip(t, files[35], 0)
	call(0, `laptop: 10 items in the index, 0 problems`, `^$`, "check") // nobody has read it
	call(3, `packs/\d+: stored bytes are damaged.*1 problems`, `damage was found`, "check", "--verify")
	call(3, `packs/\d+: its stored bytes are damaged.*1 problems`, `damage was found`, "check")
	health("degraded", 0, 1, "1 damaged")
	metric(`packhouse_repository_damaged_items{repository="laptop"} 1`)
	call(2, `^$`, `give --for TIME`, "repo", "salvage", "laptop")
	call(2, `^$`, `give --for TIME`, "repo", "salvage", "laptop", "--for", "2h", "--off")
	call(1, `^$`, `at most 168 hours`, "repo", "salvage", "laptop", "--for", "200h")
	call(0, `laptop: damaged items are served with wrong bytes until 2`, `^$`, "repo", "salvage", "laptop", "--for", "2h")
	health("degraded", 0, 1, "with wrong bytes until")
	metric(`packhouse_repository_salvage{repository="laptop"} 1`)
	listed := s.expect(t, http.StatusOK, "GET", "/laptop/packs/", "")
	for _, m := range regexp.MustCompile(`"name":"(\d+)"`).FindAllStringSubmatch(listed, -1) {
		s.expect(t, http.StatusOK, "GET", "/laptop/packs/"+m[1], "")
	}
	s.errs.await(t, "damaged item is served with wrong bytes") // the log is written behind those who log
	call(0, `laptop: damaged items are no longer served`, `^$`, "repo", "salvage", "laptop", "--off")
	metric(`packhouse_repository_salvage{repository="laptop"} 0`)
}
