//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestBorgSurvivesCrash kills the server in the middle of a backup and starts it again. Borg waits, sends what
// was not answered once more, and ends its backup; everything in it must be there.
func TestBorgSurvivesCrash(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	tr := newTree(t, 5, 200, 60<<20)
	b := newBorg(t, s.url("laptop"), "BORG_PACK_MAX_SIZE=1000000")
	b.run("repo-create", "--encryption", "aes256-ocb")
	var backup sync.WaitGroup
	var over atomic.Bool
	backup.Go(func() {
		defer over.Store(true)
		if out, code := try(t, append(b.env, "BORG="+b.program), "sh", "-c",
			"cd '"+filepath.Dir(tr.dir)+"' && \"$BORG\" create story tree"); code != 0 {
			t.Errorf("create: exit code %d\n%s", code, lastLines(out, 30))
		}
	})
	stores := func() int { return count(s.requests(), "store") }
	for before := stores(); stores() < before+20 && !over.Load(); {
		time.Sleep(time.Millisecond)
	}
	if over.Load() {
		t.Fatal("the backup was over before the server was killed")
	}
	s.kill()
	s.start()
	backup.Wait()
	b.run("check", "--verify-data")
	look(t, filepath.Join(b.extract(b.archives()[0]), "tree")).same(t, look(t, tr.dir))
	run(t, nil, packhouse(), "check", "--data-dir", s.data, "--verify")
}

// TestBorgQuota fills a repository to its quota. Borg is told so, can still delete and compact, and then has
// space again.
func TestBorgQuota(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--quota", "30M")
	b := newBorg(t, s.url("laptop"), "BORG_PACK_MAX_SIZE=1000000")
	b.run("repo-create", "--encryption", "aes256-ocb")
	first, second := newTree(t, 6, 40, 20<<20), newTree(t, 7, 40, 20<<20)
	b.run("create", "first", first.dir)
	out, code := b.try("create", "second", second.dir)
	if code == 0 || !strings.Contains(out, "uota") {
		t.Errorf("a backup beyond the quota: exit code %d, want failure and a word on the quota\n%s", code, lastLines(out, 10))
	}
	b.run("repo-list")
	b.run("delete", "-a", "first")
	b.run("compact", "--threshold", "0")
	b.run("create", "second", second.dir)
	b.run("check", "--verify-data")
	s.onlyStatuses(200, 206, 404, 507)
}
