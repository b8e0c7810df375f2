package vger_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/api/apitest"
	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
)

// bounded is a disk with so many bytes free, whatever is written to it.
type bounded struct {
	vfs.FS
	free *atomic.Int64
}

func (b bounded) Space(string) (free, total int64, err error) { return b.free.Load(), 1 << 40, nil }

// TestRepackIsLogged: the log tells of each plan what became of it, and which repository it is in; and of one that is
// refused, why.
func TestRepackIsLogged(t *testing.T) {
	t.Parallel()
	log := new(apitest.Log)
	var free atomic.Int64
	free.Store(1 << 30)
	s := newServer(t, func(c *setup) {
		logger := slog.New(slog.NewTextHandler(log, nil))
		c.set.FS = bounded{c.set.FS, &free}
		c.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 1 << 20} }
		c.set.Logger, c.server.Logger = logger, logger
		engine := compact.New(compact.Options{TempDir: t.TempDir(), Logger: logger})
		t.Cleanup(func() {
			if err := engine.Close(); err != nil {
				t.Errorf("close engine: %v", err)
			}
		})
		c.dialect.Engine = engine
	})
	seen := 0
	wantLog := func(patterns ...string) {
		t.Helper()
		for _, pattern := range patterns {
			log.Await(t, seen, `^.* `+pattern)
		}
		text := log.String()[seen:]
		seen += len(text)
		if len(patterns) == 0 && strings.Contains(text, "client's index") {
			t.Errorf("a line about an index in\n%s", text)
		}
	}
	s.put("/laptop/index", "1")
	s.put("/laptop/locks/l.json", "{}")
	// What lives of each is small.
	var packs []string
	for n := range 3 {
		packs = append(packs, s.putPack("/laptop", makePack(fmt.Sprintf("%04d", n), strings.Repeat("x", []int{3000, 1001, 1002}[n]))))
	}
	s.want(200, s.do("GET", "/laptop/index", ""))
	repack := func(status int, operations ...string) {
		t.Helper()
		s.want(status, s.do("POST", "/laptop?repack", plan(operations...)))
	}

	repack(200, operation(packs[2], true))
	wantLog(`level=INFO msg="packs that a client calls unused" repository=laptop job=\w+ principal=\S+ removed=1 bytes=1023 left=0`)
	repack(200, operation(packs[0], true, 13, 4))
	wantLog(`level=INFO msg="compaction waits for its client's index: its sources stay until then" repository=laptop job=\w+ principal=\S+ plan=1 packs=1 bytes=3021 lock="locks/l.json since \d+"`,
		`level=INFO msg="plan carried out" repository=laptop job=`)

	// The sources of open plans are not more than the quota.
	if err := s.repository("laptop").Repository().SetQuota(t.Context(), 7000); err != nil {
		t.Fatal(err)
	}
	large := s.putPack("/laptop", makePack("live", strings.Repeat("x", 5000)))
	repack(413, operation(large, true, 13, 4))
	wantLog(`level=INFO msg=request .* repository=laptop .* operation=repack .* status=413 .* reason="the compaction that .* began at .* still waits for its index, \d+ bytes short: .*"`)
	free.Store(1<<20 + 1183762 - 500) // what was removed at first is enough, but its place is not given back here
	repack(413, operation(packs[1], false, 13, 4))
	wantLog(`level=INFO msg=request .* repository=laptop .* operation=repack .* status=413 .* reason=".*no space left on the server.*"`,
		`level=INFO msg="packs kept after compactions are deleted" repository=laptop why="the disk is short" packs=1 bytes=1023`)
	free.Store(1 << 30)

	s.put("/laptop/index", "2")
	wantLog(`level=INFO msg="compaction complete: its client has stored the index" repository=laptop plan=1 principal=\S+ packs=1 bytes=3021`)
	s.want(200, s.do("GET", "/laptop/"+packs[0], ""))
	wantLog(`level=INFO msg="a pack that a compaction had removed is back: a client requested it" repository=laptop key=` + packs[0])
	s.want(200, s.do("GET", "/laptop/index", ""))
	repack(200, operation(packs[1], true))
	wantLog() // an operation without an output waits for nothing
	if freed, err := s.repository("laptop").Repository().EmptyKept(t.Context()); err != nil || freed != (repo.Emptied{Items: 1, Bytes: 1022}) {
		t.Errorf("given back: got %+v, %v", freed, err)
	}
	wantLog(`level=INFO msg="packs kept after compactions are deleted" repository=laptop why="an administrator requested it" packs=1 bytes=1022`)
}
