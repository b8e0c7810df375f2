package holder_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/api/holder"
)

// TestStart: the process has a session of its own, nothing of ours open, and no secrets; and Start says how it went.
func TestStart(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("BORG_PASSPHRASE", "secret")
	t.Setenv("PACKHOUSE_TOKEN", "secret")
	t.Setenv("PACKHOUSE_HOLD_IDLE", "5s")
	open, err := os.Create(filepath.Join(dir, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	out := filepath.Join(dir, "out")
	script := "(env; pwd; readlink /proc/$$/fd/* | sed 's/^/fd=/'; cut -d ' ' -f 1,6 /proc/$$/stat) >" + out + "; echo ready >&3"
	if err := holder.Start(t.Context(), "/bin/sh", "-c", script); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var pid, session string
	if f := strings.Fields(lines[len(lines)-1]); len(f) == 2 {
		pid, session = f[0], f[1]
	}
	if pid == "" || pid != session {
		t.Errorf("process %s is in session %s, want one of its own", pid, session)
	}
	for want, has := range map[string]bool{"PACKHOUSE_HOLD_IDLE=5s": true, "PWD=/": true, "secret": false, "fd=" + open.Name(): false} {
		if strings.Contains(string(text), want) != has {
			t.Errorf("%q in what the process sees: got %v, want %v\n%s", want, !has, has, text)
		}
	}

	for script, want := range map[string]string{
		"echo taken >&3": "", "echo no such thing >&3": "no such thing", "exit 1": "ended before it was ready",
	} {
		err := holder.Start(t.Context(), "/bin/sh", "-c", script)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", script, err, want)
		}
	}
	if err := holder.Start(t.Context(), filepath.Join(dir, "none")); err == nil {
		t.Error("a program that is not there: got no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := holder.Start(ctx, "/bin/sh", "-c", "sleep 1"); err == nil || ctx.Err() == nil {
		t.Errorf("one that says nothing: got %v, want the context's error", err)
	}
}
