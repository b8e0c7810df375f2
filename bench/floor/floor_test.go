package floor_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"packhouse/bench/floor"
)

// serve runs a floor in dir until the test ends, or until the returned function stops it.
func serve(t *testing.T, dir string) (url string, stop func()) {
	t.Helper()
	s, err := floor.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, "", "") }()
	stop = sync.OnceFunc(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(stop)
	return "http://" + l.Addr().String(), stop
}

func send(t *testing.T, method, url, body string) (code int, answer string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func name(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// Everything that was acknowledged is in the log, also of many requests at a time, and nothing else.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir)
	const n = 50
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			body := fmt.Sprintf("item %d", i)
			if code, text := send(t, http.MethodPut, url+floor.LogPath+name(body), body); code != http.StatusOK {
				t.Errorf("put: %d %s", code, text)
			}
		})
	}
	group.Wait()
	if code, _ := send(t, http.MethodPut, url+floor.LogPath+name("other"), "not that"); code != http.StatusInternalServerError {
		t.Errorf("a body that is not what its name says: got %d", code)
	}
	stop()
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for len(text) >= 4 {
		size := binary.LittleEndian.Uint32(text)
		found[string(text[4:4+size])] = true
		text = text[4+size:]
	}
	if len(text) != 0 || len(found) != n || !found["item 0"] || !found["item 49"] {
		t.Errorf("%d bytes are left after %d records, want %d: %v", len(text), len(found), n, found)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir)
	body := strings.Repeat("0123456789", 100_000)
	if code, text := send(t, http.MethodPut, url+floor.FilePath+name(body), body); code != http.StatusOK {
		t.Fatalf("put: %d %s", code, text)
	}
	if code, _ := send(t, http.MethodPut, url+floor.FilePath+name("other"), "not that"); code != http.StatusInternalServerError {
		t.Errorf("a body that is not what its name says: got %d", code)
	}
	if code, _ := send(t, http.MethodGet, url+floor.FilePath+name("other"), ""); code != http.StatusNotFound {
		t.Errorf("get of what was refused: got %d, want 404", code)
	}
	if code, text := send(t, http.MethodGet, url+floor.FilePath+name(body), ""); code != http.StatusOK || text != body {
		t.Errorf("get: %d, %d bytes", code, len(text))
	}
	plan := fmt.Sprintf(`{"Source": %q, "Keep": [[10, 5], [25, 2]]}`, name(body))
	if code, text := send(t, http.MethodPost, url+floor.CopyPath, plan); code != http.StatusOK {
		t.Fatalf("copy: %d %s", code, text)
	}
	if code, text := send(t, http.MethodGet, url+floor.FilePath+name(body)+".new", ""); code != http.StatusOK || text != "0123456" {
		t.Errorf("what was copied: %d %q", code, text)
	}
	if code, _ := send(t, http.MethodGet, url+floor.FilePath+name(body), ""); code != http.StatusNotFound {
		t.Errorf("what was copied from: got %d, want 404", code)
	}
	if code, text := send(t, http.MethodPost, url+floor.DeletePath, fmt.Sprintf("[%q, %q]", name(body)+".new", name("never there"))); code != http.StatusOK {
		t.Errorf("delete: %d %s", code, text)
	}
	stop()
	if left, err := os.ReadDir(filepath.Join(dir, "files")); err != nil || len(left) > 0 {
		t.Errorf("files that were deleted: %v, %v", left, err)
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	if err := floor.Seed(dir, 300, func(i int) string { return fmt.Sprintf("%02x%d", i%3, i) }); err != nil {
		t.Fatal(err)
	}
	url, _ := serve(t, dir)
	for prefix, want := range map[string]int{"": 300, "01": 100} {
		_, text := send(t, http.MethodGet, url+floor.ListPath+prefix, "")
		if got := strings.Count(text, ","); got != want-1 || !strings.HasPrefix(text, `["`) {
			t.Errorf("list %q: %d names, want %d", prefix, got+1, want)
		}
	}
	if _, text := send(t, http.MethodGet, url+floor.ListPath+"ff", ""); text != "[]" {
		t.Errorf("list of nothing: %s", text)
	}
}
