//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrashOfBorg: who adds and deletes again and again meets the bound of the trash, learns what helps, and goes on when
// the trash is empty. Until then nothing but adding is refused.
func TestTrashOfBorg(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	s := startServer(t, "--quota", "20M", "--trash-quota", "6M", "--grace", "7d")
	b := newBorg(t, s.url("laptop"))
	b.run("repo-create", "--encryption", "aes256-ocb")
	usage := func() (u struct {
		Counted    int64 `json:"bytes_counted"`
		TrashBytes int64 `json:"trash_bytes"`
		TrashQuota int64 `json:"trash_quota"`
	}) {
		t.Helper()
		text := run(t, nil, packhouse(), "repo", "info", "laptop", "--json", "--data-dir", s.data)
		if err := json.Unmarshal([]byte(text), &struct{ Usage any }{&u}); err != nil {
			t.Fatal(err)
		}
		return u
	}
	dir := t.TempDir()
	refused := ""
	for i := range 12 {
		writeFile(t, filepath.Join(dir, "file"), string(noise(uint64(i), 4*mib)), 0o600)
		out, code := b.try("create", fmt.Sprint("a", i), dir)
		if code != 0 {
			refused = out
			break
		}
		b.run("delete", fmt.Sprint("a", i))
		b.run("compact")
		if u := usage(); u.Counted+u.TrashBytes > (20+6)*mib || u.TrashQuota != 6*mib {
			t.Fatalf("after round %d: %+v", i, u)
		}
	}
	if !strings.Contains(refused, "trash quota exceeded") || !strings.Contains(refused, "packhouse trash empty") {
		t.Fatalf("borg said %q", refused)
	}
	if out := run(t, nil, packhouse(), "repo", "info", "laptop", "--data-dir", s.data); !strings.Contains(out, "short of trash quota") {
		t.Errorf("info: got %s", out)
	}
	run(t, nil, packhouse(), "trash", "empty", "laptop", "--yes", "--data-dir", s.data)
	b.run("create", "again", dir)
	b.run("check", "--verify-data")
}
