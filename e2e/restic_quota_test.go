//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestResticQuota fills a repository to its quota. restic is told so at once, can forget, and prune without repacking, and has space again. Locks and
// indexes are admitted meanwhile.
func TestResticQuota(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--quota", "20M")
	r := resticOn(t, s, "laptop")
	first, second, third := newTree(t, 86, 20, 8<<20), newTree(t, 87, 20, 8<<20), newTree(t, 88, 20, 12<<20)
	id := r.backup(first)
	kept := r.backup(second)
	out, code := r.try("backup", third.dir)
	if code != 1 || !strings.Contains(out, "507") {
		t.Errorf("a backup beyond the quota: exit code %d, want 1 and status 507\n%s", code, lastLines(out, 10))
	}
	refused := 0
	for _, e := range s.requests() {
		if e.Status == 507 {
			refused++
			if !strings.Contains(e.Reason, "uota") {
				t.Errorf("the log does not say why: %s", e.raw)
			}
		}
	}
	if refused == 0 || refused > 12 {
		t.Errorf("%d uploads were refused: want some, and none repeated", refused)
	}
	r.run("check", "--read-data")
	r.run("prune", "--max-repack-size", "0") // what the refused backup has left
	run(t, nil, packhouse(), "repo", "quota", "laptop", fmt.Sprint(s.info("laptop").Usage.Counted), "-d", s.data)
	if _, err := newResticHTTP(s, "laptop").do("POST", "/data/"+sha256Name([]byte("x")), []byte("x")); err == nil {
		t.Error("a repository that is full takes a pack")
	}
	r.run("forget", id)
	if out := r.run("prune", "--max-repack-size", "0"); !strings.Contains(out, "done") {
		t.Errorf("prune:\n%s", out)
	}
	if used := s.info("laptop").Usage.Counted; used > 12<<20 {
		t.Errorf("%d bytes are counted after prune", used)
	}
	run(t, nil, packhouse(), "repo", "quota", "laptop", "20M", "-d", s.data)
	again := r.backup(newTree(t, 89, 20, 6<<20))
	r.run("prune") // can repack now
	r.sound(map[string]picture{kept: look(t, second.dir)})
	r.run("ls", again)
	s.onlyStatuses(200, 206, 499, 507) // 499: an upload that restic cut off when another one was refused
}

// TestResticTrashQuota: what is pruned again and again is kept for a while, until a backup is refused, and the log says why. To forget and prune works
// all the same, and a backup when the trash is empty.
func TestResticTrashQuota(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--quota", "12M", "--trash-quota", "6M", "--grace", "7d")
	r := resticOn(t, s, "laptop")
	refused := ""
	for i := range uint64(6) {
		tr := newTree(t, 890+i, 10, 4<<20)
		out, code := r.try("backup", tr.dir)
		if code != 0 {
			refused = out
			break
		}
		r.run("forget", "--keep-last", "1", "--group-by", "", "--prune", "--max-repack-size", "0")
	}
	if !strings.Contains(refused, "507") {
		t.Fatalf("restic said %q", refused)
	}
	if log := fmt.Sprint(s.requests()); !strings.Contains(log, "trash quota exceeded") {
		t.Errorf("the log does not say why")
	}
	r.run("forget", "--keep-last", "1", "--group-by", "", "--prune", "--max-repack-size", "0")
	run(t, nil, packhouse(), "trash", "empty", "laptop", "--yes", "-d", s.data)
	r.backup(newTree(t, 899, 10, 4<<20))
	r.run("check", "--read-data")
}
