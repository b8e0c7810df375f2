package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// store makes an item.
func store(t *testing.T, a *repo.Access, key, body string) {
	t.Helper()
	if _, err := a.Put(t.Context(), repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
}

// repack opens a plan that makes a pack of one byte from sources, and is answered.
func repack(t *testing.T, a *repo.Access, output string, sources ...string) {
	t.Helper()
	compaction, err := a.BeginCompaction("job of "+output, true)
	if err != nil {
		t.Fatal(err)
	}
	u, err := a.NewUpload(t.Context(), repo.UploadOptions{Key: output, Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Discard()
	if _, err = u.Write([]byte("n")); err == nil {
		err = u.Finish(t.Context(), output, repo.Verified{})
	}
	if err == nil {
		_, err = a.CommitOpen(t.Context(), repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Open: &repo.OpenPlan{Compaction: compaction, Sources: sources}})
	}
	if err != nil {
		t.Fatal(err)
	}
	compaction.Answering()
}

// The metrics and the health tell of open plans, of what came back and of what is kept after compactions: also how much of the
// disk is free when that is given back, by repositories that can.
func TestCompactionsAreSeen(t *testing.T) {
	var broken atomic.Bool
	set := datadir.Open(datadir.Options{Dir: t.TempDir(), Environment: repo.Environment{Index: index.Options{BeforeCommit: func() error {
		if broken.Load() {
			return errors.New("no disk")
		}
		return nil
	}}}})
	t.Cleanup(func() { set.Close() })
	f := startEcho(t, api.Options{Set: set, OpenMetrics: true})
	var clients []*repo.Access
	for _, name := range []string{"a", "b"} {
		r, err := set.Create(t.Context(), name, "vger")
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, r.As(repo.Principal{Name: "laptop"}))
	}
	expect := func(kept int64, metrics ...string) {
		t.Helper()
		_, text := get(t, f.Addr, "GET", "/health")
		var h struct {
			Free *int64 `json:"disk_free_bytes"`
			With *int64 `json:"disk_free_with_kept_bytes"`
		}
		if err := json.Unmarshal([]byte(text), &h); err != nil || h.Free == nil || h.With == nil || *h.Free <= 0 || *h.With-*h.Free != kept {
			t.Errorf("health: got %s, %v, want %d bytes between the two", text, err, kept)
		}
		_, text = get(t, f.Addr, "GET", "/metrics")
		figure := func(name string) (n float64) {
			_, rest, _ := strings.Cut(text, "\npackhouse_disk_"+name+"_bytes ")
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Errorf("metrics: %s: %v", name, err)
			}
			return n
		}
		if free, with := figure("free"), figure("free_with_kept"); with-free != float64(kept) {
			t.Errorf("metrics: got %.0f and %.0f, want %d bytes between them", free, with, kept)
		}
		for _, want := range metrics {
			if !strings.Contains(text, "\npackhouse_repository_"+want+"\n") {
				t.Errorf("metrics have no %s", want)
			}
		}
	}
	expect(0, `open_plans{repository="a"} 0`, `open_bytes{repository="a"} 0`, `returned_bytes{repository="a"} 0`,
		`kept_items{repository="a"} 0`, `kept_bytes{repository="b"} 0`)
	for _, a := range clients {
		store(t, a, "index", "1")
		store(t, a, "packs/a", "first pack")
		store(t, a, "packs/b", "second pack")
		store(t, a, "locks/l.json", "{}")
		repack(t, a, "packs/c", "packs/a", "packs/b")
	}
	expect(0, `open_plans{repository="a"} 1`, `open_bytes{repository="a"} 21`, `kept_items{repository="a"} 0`, `open_plans{repository="b"} 1`)
	for _, a := range clients {
		a.IndexRead("index", a.ReadTime())
		store(t, a, "index", "2")
	}
	expect(42, `open_plans{repository="a"} 0`, `open_bytes{repository="a"} 0`, `kept_items{repository="a"} 2`, `kept_bytes{repository="a"} 21`)
	if _, err := clients[0].Lookup(context.Background(), "packs/b"); err != nil { // a client asks for it
		t.Fatal(err)
	}
	expect(31, `returned_bytes{repository="a"} 11`, `kept_items{repository="a"} 1`, `kept_bytes{repository="a"} 10`, `kept_bytes{repository="b"} 21`)

	broken.Store(true)
	if err := clients[1].Delete(t.Context(), "packs/c"); !errors.Is(err, repo.ErrReadOnly) {
		t.Fatalf("delete from a failed index: got %v, want ErrReadOnly", err)
	}
	expect(10, `read_only{repository="b"} 1`, `kept_bytes{repository="b"} 21`)
}
