//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRestartUnderLoad restarts the server while clients work, with the listening socket kept by the one who
// starts it, as systemd does. A client that opens a connection for each request, and never tries twice,
// must not see one fail; borg must end its backup.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	start := s.keepSocket()
	start()
	once := newStoreClient(s, "restarts", 1)
	once.http.Transport = &http.Transport{DisableKeepAlives: true}
	if err := once.create(); err != nil {
		t.Fatal(err)
	}

	tr := newTree(t, 3, 300, 48<<20)
	b := newBorg(t, s.url("laptop"), "BORG_PACK_MAX_SIZE=2000000")
	b.run("repo-create", "--encryption", "aes256-ocb")
	var backup sync.WaitGroup
	var over atomic.Bool
	backup.Go(func() {
		defer over.Store(true)
		if out, code := b.try("create", "story", tr.dir); code != 0 {
			t.Errorf("borg create across restarts: exit code %d\n%s", code, lastLines(out, 30))
		}
	})

	var stop atomic.Bool
	var served atomic.Int64
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := 0; !stop.Load(); n++ {
				name, value := fmt.Sprintf("w%d/n%d", i, n%20), noise(uint64(i*1000+n), 20_000)
				if err := once.store(name, value); err != nil {
					t.Errorf("store: %v", err)
					return
				}
				if got, err := once.load(name); err != nil || !bytes.Equal(got, value) {
					t.Errorf("load: %d bytes, %v; want the %d stored", len(got), err, len(value))
					return
				}
				served.Add(2)
			}
		})
	}
	stored := func() (n int) { // by borg
		for _, r := range s.requests() {
			if r.Repository == "laptop" && r.Operation == "store" {
				n++
			}
		}
		return n
	}
	amid := 0
	for range 4 {
		before, packs := served.Load(), stored()
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline) && !t.Failed(); time.Sleep(10 * time.Millisecond) {
			if served.Load() >= before+20 && (over.Load() || stored() >= packs+3) {
				break
			}
		}
		if !over.Load() {
			amid++
		}
		s.stop()
		start()
	}
	stop.Store(true)
	group.Wait()
	backup.Wait()
	if amid == 0 {
		t.Errorf("no restart fell into the backup")
	}
	if served.Load() < 80 {
		t.Errorf("only %d requests were served over four restarts", served.Load())
	}
	b.run("check", "--verify-data")
	if leftover, err := os.ReadDir(filepath.Join(s.data, "restarts", "incoming")); err != nil || len(leftover) > 0 {
		t.Errorf("incoming/ holds %d files (%v) after clean stops", len(leftover), err)
	}
}
