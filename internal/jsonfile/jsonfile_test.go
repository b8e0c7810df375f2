package jsonfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/internal/jsonfile"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.json")
	var got struct{ A int }
	if found, err := jsonfile.Read(path, 100, &got); found || err != nil {
		t.Errorf("no file: got %v, %v", found, err)
	}
	for _, tt := range []struct {
		text, refused string
	}{{`{"a": 5}`, ""}, {`{"a": `, "unexpected end"}, {`{"a": 5}` + strings.Repeat(" ", 100), "too large"}} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got.A = 0
		found, err := jsonfile.Read(path, 100, &got)
		if refused := err != nil && strings.Contains(err.Error(), tt.refused); found != (tt.refused == "") || tt.refused != "" && !refused || found && (err != nil || got.A != 5) {
			t.Errorf("%.20q: got %v, %v, %+v", tt.text, found, err, got)
		}
	}
	pipe := path + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{pipe, t.TempDir()} {
		if found, err := jsonfile.Read(other, 1<<20, &got); found || err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: got %v, %v", other, found, err)
		}
	}
}
