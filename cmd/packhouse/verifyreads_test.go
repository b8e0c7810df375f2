package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestVerifyReads: with "never" a wrong byte in a file is sent as it lies, which a file system that checks itself would not give; a scrub
// finds it nevertheless.
func TestVerifyReads(t *testing.T) {
	for setting, want := range map[string]int{"always": http.StatusPreconditionFailed, "never": http.StatusOK} {
		top := tempDir(t)
		data := filepath.Join(top, "data")
		file := filepath.Join(top, "packhouse.toml")
		write(t, file, "[server]\nverify_reads = \""+setting+"\"\n")
		s := startServer(t, top, "--config", file, "--data-dir", data)
		s.expect(t, http.StatusOK, "POST", "/r/?cmd=create", "")
		body := bytes.Repeat([]byte("precious"), smallItems)
		s.expect(t, http.StatusOK, "POST", "/r/packs/x", string(body))
		found, err := filepath.Glob(filepath.Join(data, "r", "blobs", "*", "*.sums"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		blob := found[0][:len(found[0])-len(".sums")]
		if info, err := os.Stat(blob); err != nil || info.Size() != int64(len(body)) {
			t.Fatalf("the file of the item: %v, %v", info, err)
		}
		flip(t, blob, 100)
		s.expect(t, want, "GET", "/r/packs/x", "")
		if code, out, errs := runHere(t, "scrub", "--wait", "--repo", "r", "-d", data); code != 3 {
			t.Errorf("%s: scrub: exit code %d\n%s%s", setting, code, out, errs)
		}
		s.expect(t, http.StatusPreconditionFailed, "GET", "/r/packs/x", "")
	}
}
