package main

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"packhouse/repo/layout"
)

// TestOneDamagedRepository: what is wrong with one repository does not keep the others from being checked and listed.
func TestOneDamagedRepository(t *testing.T) {
	top := tempDir(t)
	data := filepath.Join(top, "data")
	s := startServer(t, top, "--data-dir", data)
	for _, name := range []string{"a", "b", "c"} {
		s.expect(t, http.StatusOK, "POST", "/"+name+"/?cmd=create", "")
		s.expect(t, http.StatusOK, "POST", "/"+name+"/packs/x", "hello")
		if code, _, errs := runHere(t, "scrub", "--wait", "--repo", name, "-d", data); code != 0 {
			t.Fatalf("scrub %s: exit code %d, %s", name, code, errs)
		}
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code of the server: %d", code)
	}
	write(t, filepath.Join(data, "b", layout.IndexFile), strings.Repeat("not an index ", 1000))

	call := func(code int, out, errs string, args ...string) {
		t.Helper()
		gotCode, gotOut, gotErrs := runHere(t, append(args, "-d", data)...)
		if gotCode != code || !regexp.MustCompile(out).MatchString(gotOut) || !regexp.MustCompile(errs).MatchString(gotErrs) {
			t.Errorf("%v: got exit code %d\n%s%s\nwant %d, %q, %q", args, gotCode, gotOut, gotErrs, code, out, errs)
		}
	}
	both := func() {
		t.Helper()
		call(3, `(?s)^a: 1 items.*b: unusable: .*c: 1 items`, `damage was found`, "check")
		call(3, `"repository":"b","problem":"unusable: `, `damage was found`, "check", "b", "--json")
		call(3, `(?s)b: unusable.*c: 1 items`, `(?s)nothing: no such repository.*damage was found`, "check", "b", "nothing", "c")
		call(1, `^$`, `does not begin with`, "check", ".x")
		call(1, `(?s)^\S+\tscrub\tdone\t.*\ta\n.*\tc\n$`, `b: `, "job", "list")
		call(1, `(?s)^{.*}\n{.*}\n$`, `b: `, "job", "list", "--json")
	}
	both()
	s = startServer(t, top, "--data-dir", data)
	both()
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code of the server: %d", code)
	}
}
