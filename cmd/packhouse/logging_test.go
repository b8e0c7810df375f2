package main

import (
	"bufio"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLogReader: a reader of the log that goes away, or reads nothing, stops neither requests nor the server.
func TestLogReader(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reads func(r *os.File)
	}{
		{"gone", func(r *os.File) { _ = r.Close() }},
		{"stalled", func(*os.File) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tempDir(t)
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			cmd := program(t, dir, "packhouse", "serve", "--listen", "127.0.0.1:0")
			cmd.Stderr = writer
			s := launch(t, cmd)
			s.url = s.out.await(t, `serves .* at (https?://\S+)`)[1]
			s.token = s.out.await(t, `token   ([0-9a-f]{64})`)[1]
			_ = writer.Close()
			if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			tt.reads(reader)
			s.expect(t, http.StatusOK, "POST", "/r/?cmd=create", "")
			key := strings.Repeat("k", 90)
			for range 600 { // 160 KiB of log; a pipe holds 64
				s.expect(t, http.StatusOK, "POST", "/r/config/"+key, "x")
			}
			began := time.Now()
			if code := s.stop(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the stop took %v", took)
			}
		})
	}
}
