//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
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

// TestHistoryOfBorg: a client that renames its objects again and again cannot have the history grow without end: borg is told what is
// full, can still delete, and a rollback to before all that is possible.
func TestHistoryOfBorg(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--quota", "8M", "--grace", "7d")
	b := newBorg(t, s.url("laptop"))
	b.run("repo-create", "--encryption", "aes256-ocb")
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "file"), string(noise(1, 1<<20)), 0o600)
	b.run("create", "before", dir)
	to := time.Now()
	const clients = 32
	client := newStoreClient(s, "laptop", clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			names := [2]string{fmt.Sprintf("packs/moved-%d-a", i), fmt.Sprintf("packs/moved-%d-b", i)} // no directory of packs has such a name
			err := client.store(names[0], nil)
			for n := 0; err == nil && n < 22_000/clients; n++ { // 16,384, and 4,096 for the quota
				err = client.move(names[n%2], names[1-n%2])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	writeFile(t, filepath.Join(dir, "file"), string(noise(2, 1<<20)), 0o600)
	if out, code := b.try("create", "after", dir); code == 0 || !strings.Contains(out, "changes are recorded") {
		t.Errorf("create: code %d, %s", code, out)
	}
	if out := run(t, nil, packhouse(), "repo", "info", "laptop", "--data-dir", s.data); !strings.Contains(out, "short of quota") {
		t.Errorf("repo info does not say it: got %s", out)
	}
	b.run("delete", "before")
	run(t, nil, packhouse(), "repo", "rollback", "laptop", "--to", to.Format(time.RFC3339Nano), "--yes", "--data-dir", s.data)
	b.run("check", "--verify-data")
}
