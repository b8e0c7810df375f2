package repo_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// TestLostRace: who stores a pack and finds that another was faster is about to refer to it, like one who finds it there.
func TestLostRace(t *testing.T) {
	s, a, _ := vgerRepository(t, nil)
	_ = s
	only, err := policy.New(map[string]string{"": "lrw"})
	if err != nil {
		t.Fatal(err)
	}
	b := a.Repository().As(repo.Principal{Name: "append", Permissions: only})
	mustPut(t, a, "index", "1")
	body, w := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := b.Put(ctx, repo.PutRequest{Key: "packs/x", Body: body, Size: 7})
		done <- err
	}()
	io.WriteString(w, "con") // b looked, and nothing was there
	time.Sleep(50 * time.Millisecond)
	mustPut(t, a, "packs/x", "content")
	readIndex(t, a) // names no packs/x
	io.WriteString(w, "tent")
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, opened := compaction(t, a, "job", nil, []string{"packs/x"}); opened.Removed != 0 {
		t.Error("a pack that was stored after the index was read went as unused")
	}
}

// TestSpareInVain: what cannot be stored whatever is given up costs no kept pack, least of all those of others.
func TestSpareInVain(t *testing.T) {
	const mib = 1 << 20
	s, a, _ := vgerRepository(t, func(o *datadir.Options) {
		o.Dir = smallDisk(t, 64*mib)
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 4 * mib} }
	})
	mustPut(t, a, "index", "1")
	mustPut(t, a, "packs/unused", strings.Repeat("x", mib))
	readIndex(t, a)
	compaction(t, a, "unused", nil, []string{"packs/unused"})
	other, err := s.Create(ctx, "other", "vger")
	if err != nil {
		t.Fatal(err)
	}
	// One request of another client, of which not a byte comes.
	_, err = other.As(repo.Principal{Name: "w"}).NewUpload(ctx, repo.UploadOptions{Key: "packs/y", Size: 512 * mib})
	if !errors.Is(err, repo.ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	if u := a.Repository().Usage(); u.KeptItems != 1 {
		t.Errorf("a request that fails anyway has destroyed what another repository keeps: %+v", u.Counters)
	}
}

// TestDeleteOfKeptHasGrace: DELETE does to what is kept as to an item: it can be restored within the grace time.
func TestDeleteOfKeptHasGrace(t *testing.T) {
	_, a, _ := vgerRepository(t, func(o *datadir.Options) {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 30 * 24 * time.Hour} }
	})
	mustPut(t, a, "index", "1")
	mustPut(t, a, "packs/x", "content")
	readIndex(t, a)
	compaction(t, a, "unused", nil, []string{"packs/x"})
	if err := a.Delete(ctx, "packs/x"); err != nil {
		t.Fatal(err)
	}
	a.Repository().ReclaimSome(ctx)
	restorable := false
	a.Repository().Trash(func(r index.Removed) error { restorable = restorable || r.Key == "packs/x"; return nil })
	if !restorable {
		t.Error("with a grace time of 30 days the pack is gone at once")
	}
}

// TestKeptHasGraceWhateverIsStored: who stores other bytes under the key of what is kept, or compacts again and again until that has
// exceeded its bound, does not make it unrecoverable within the grace time.
func TestKeptHasGraceWhateverIsStored(t *testing.T) {
	for what, attack := range map[string]func(t *testing.T, a *repo.Access){
		"stored": func(t *testing.T, a *repo.Access) { mustPut(t, a, "packs/x", "garbage") },
		"moved": func(t *testing.T, a *repo.Access) {
			mustPut(t, a, "packs/y", "garbage")
			if err := a.Move(ctx, "packs/y", "packs/x"); err != nil {
				t.Fatal(err)
			}
		},
		"compacted again": func(t *testing.T, a *repo.Access) {
			for i := range 4 {
				key := fmt.Sprint("packs/garbage", i)
				mustPut(t, a, key, strings.Repeat("g", 500))
				readIndex(t, a)
				compaction(t, a, key, nil, []string{key})
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, a, passed := vgerRepository(t, func(o *datadir.Options) {
				o.Settings = func(string) repo.Settings {
					return repo.Settings{Quota: 800, TrashQuota: -1, Grace: 30 * 24 * time.Hour}
				}
			})
			r := a.Repository()
			mustPut(t, a, "index", "1")
			mustPut(t, a, "packs/x", strings.Repeat("content", 50))
			passed.Add(int64(time.Second))
			to := r.Now()
			passed.Add(int64(time.Second))
			readIndex(t, a)
			compaction(t, a, "unused", nil, []string{"packs/x"})
			passed.Add(int64(time.Second))
			attack(t, a)
			if _, err := repo.IndexOf(r).Kept("packs/x"); err == nil {
				t.Fatal("it is still kept")
			}
			passed.Add(int64(time.Hour))
			if err := r.ReclaimSome(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Rollback(ctx, repo.RollbackRequest{To: to}, repo.Principal{}, nil); err != nil {
				t.Fatal(err)
			}
			if got, err := get(a, "packs/x"); err != nil || got != strings.Repeat("content", 50) {
				t.Errorf("got %.20q, %v", got, err)
			}
		})
	}
}

// TestUsage: whatever happens, in memory usage is as in the index.
func TestUsage(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			_, a, passed := vgerRepository(t, func(o *datadir.Options) {
				o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 3000, Grace: time.Hour} }
			})
			r := a.Repository()
			who := []*repo.Access{a, r.As(repo.Principal{Name: "w", Address: "192.0.2.2"})}
			keys := []string{"packs/a", "packs/b", "packs/c", "packs/d", "packs/e", "index", "index.gen", "locks/l", "locks/m", "sessions/s", "snapshots/x"}
			var last *repo.Compaction
			for i := range 400 {
				by := who[random.IntN(2)]
				key := keys[random.IntN(len(keys))]
				what := random.IntN(13)
				switch what {
				case 0, 1, 2:
					put(by, key, strings.Repeat(string('a'+rune(random.IntN(2))), 1+random.IntN(3)*300))
				case 3:
					by.Delete(ctx, key)
				case 4:
					if random.IntN(8) == 0 {
						by.DeleteAll(ctx, []string{"config", key, "packs/a"})
					} else {
						by.DeleteAll(ctx, []string{key, "packs/b"})
					}
				case 5, 6, 7:
					k, err := by.BeginCompaction(fmt.Sprint(random.IntN(4)), true)
					if err != nil {
						t.Fatal(err)
					}
					var sources, unused []string
					for _, key := range keys[:5] {
						switch _, err := by.Stat(ctx, key); {
						case random.IntN(3) == 0 && err == nil:
							sources = append(sources, key)
						case random.IntN(3) == 0:
							unused = append(unused, key)
						}
					}
					b := repo.Batch{Open: &repo.OpenPlan{Compaction: k, Sources: sources, Unused: unused}}
					if e, err := by.Stat(ctx, "packs/e"); err == nil && !slices.Contains(sources, "packs/e") && !slices.Contains(unused, "packs/e") {
						b.Open.Found = append(b.Open.Found, index.Require{Key: "packs/e", Ref: e.Item.Ref})
					}
					if _, err := by.CommitOpen(ctx, b); err == nil {
						k.Answering()
						last = k
					}
				case 8:
					get(by, key)
				case 9:
					put(by, "index", fmt.Sprint(i))
				case 10:
					var ids []string
					r.Trash(func(r index.Removed) error { ids = append(ids, r.ID); return nil })
					if len(ids) > 0 {
						r.Restore(ctx, ids[random.IntN(len(ids))], "")
					}
				case 11:
					by.Move(ctx, key, keys[random.IntN(5)])
				case 12:
					passed.Add(int64(random.IntN(30)) * int64(time.Hour))
					r.ReclaimSome(ctx)
					if random.IntN(3) == 0 {
						r.EmptyKept(ctx)
					}
					if random.IntN(2) == 0 {
						at := by.ReadTime()
						by.IndexRead("index", at)
					}
				}
				_ = last
				if u := r.Usage(); u.Used != u.Counted() || u.Reserved != 0 {
					t.Fatalf("step %d (%d, %s): used %d, counted %d: %+v", i, what, key, u.Used, u.Counted(), u)
				}
				if counted, reserved, stored := repo.CommitBytes(t, r); counted != stored || reserved != 0 {
					t.Fatalf("step %d (%d, %s): commit keys: counted %d, reserved %d, stored %d", i, what, key, counted, reserved, stored)
				}
			}
		})
	}
}

// TestSpareForMany: uploads that find place together when what is kept gives way are all admitted.
func TestSpareForMany(t *testing.T) {
	const mib = 1 << 20
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			_, a, _ := vgerRepository(t, func(o *datadir.Options) {
				o.Dir = smallDisk(t, 64*mib)
				o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 4 * mib} }
			})
			mustPut(t, a, "index", "1")
			body := strings.Repeat("x", mib)
			var unused []string
			for i := range 40 {
				unused = append(unused, fmt.Sprintf("packs/unused%02d", i))
				mustPut(t, a, unused[i], body)
			}
			readIndex(t, a)
			compaction(t, a, "unused", nil, unused)
			var wg sync.WaitGroup
			var refused atomic.Int64
			for i := range 16 {
				wg.Go(func() {
					for j := range 2 {
						_, err := put(a, fmt.Sprintf("packs/%d-%d", i, j), body)
						if errors.Is(err, repo.ErrNoSpace) {
							refused.Add(1)
							if u := a.Repository().Usage(); u.KeptItems > 0 {
								t.Errorf("refused while %d packs are kept", u.KeptItems)
							}
						}
					}
				})
			}
			wg.Wait()
			if refused.Load() > 0 {
				t.Errorf("%d of 32 refused", refused.Load())
			}
		})
	}
}
