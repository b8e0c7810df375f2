package vykartest_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"packhouse/api/vger/vykartest"
)

// story is a trial whose course is told, not drawn.
func story(t *testing.T, plan trialPlan, course func(x *trial)) {
	t.Helper()
	if plan.format == 0 {
		plan.format = 2
	}
	if plan.batch == 0 {
		plan.batch = 2 << 30
	}
	if plan.packSize == 0 {
		plan.packSize, plan.chunkSize = 4<<10, 1000
	}
	x := newPlannedTrial(t, newMachine(t, t.TempDir()), 1, random(1, t.Name()), plan)
	if found := x.judged(func() {
		must(t, x.process(x.a).Init())
		course(x)
	}); found != "" {
		t.Error(found)
	}
}

// dead makes a repository whose packs hold a dead chunk for each that lives: n of them.
func (x *trial) dead(n int) {
	x.t.Helper()
	content := x.pool(2 * n)
	old, err := x.backup(x.a, content)
	must(x.t, err)
	var live [][]byte
	for i := 0; i < len(content); i += 2 {
		live = append(live, content[i])
	}
	_, err = x.backup(x.a, live)
	must(x.t, err)
	must(x.t, x.remove(x.a, old))
}

// survives is what a client does after an interruption, and what there must be to the end.
func (x *trial) survives() {
	x.t.Helper()
	x.afterwards()
	x.relax()
	x.days(x.pool(4))
	x.end()
}

// on makes a request fail in all its tries.
func on(method, suffix string, skip int, cut vykartest.Cut, times int) *faults {
	return &faults{skip: skip, cut: cut, times: times, matches: func(r *http.Request) bool {
		target := r.URL.RequestURI()
		return r.Method == method && len(target) >= len(suffix) && target[len(target)-len(suffix):] == suffix
	}}
}

// TestLoweredQuota: the limit becomes less than what is stored before a compaction, whose index must yet be stored.
func TestLoweredQuota(t *testing.T) {
	for _, format := range []int{1, 2} {
		for _, percent := range []int64{0, 10, 50, 90, 100} {
			t.Run(fmt.Sprintf("format %d, %d percent", format, percent), func(t *testing.T) {
				story(t, trialPlan{format: format, quota: "lowered"}, func(x *trial) {
					x.dead(20)
					x.m.quota = x.m.repository().Usage().Used * percent / 100
					x.m.configure()
					if done, err := x.compact(x.a); err != nil || !done.Saved {
						x.j.fail("compact: %+v, %v", done, err)
					}
					x.survives()
				})
			})
		}
	}
}

// TestNearlyFullDisk: a plan that was begun must be able to end, however little is free. One that is refused has
// changed nothing.
func TestNearlyFullDisk(t *testing.T) {
	const mib = 1 << 20
	for _, eighths := range []int64{0, 2, 6, 8, 10, 24, 36, 40, 48, 60, 64, 68, 75, 96} {
		t.Run(fmt.Sprintf("%d", eighths), func(t *testing.T) {
			t.Parallel()
			story(t, trialPlan{disk: true, packSize: mib, chunkSize: 240 << 10}, func(x *trial) {
				x.dead(24) // the outputs are some 4.5 MiB
				x.m.reserve = 8 * mib
				x.m.disk.resize(x.m.disk.used() + eighths*mib/8)
				x.m.configure()
				done, err := x.compact(x.a)
				switch {
				case err == nil && done.Saved:
				case tooLarge(err) && done.Batches == 0 && eighths < 68:
				default:
					x.j.fail("compact: %+v, %v", done, err)
				}
				x.survives()
			})
		})
	}
}

// TestLostBetweenAnswerAndIndex: the new packs are there, and the client never stores the index that names them.
func TestLostBetweenAnswerAndIndex(t *testing.T) {
	for _, batch := range []int64{2 << 30, 8 << 10} {
		for name, f := range map[string]*faults{
			"the answer is lost each time":     on("POST", "?repack", 0, vykartest.Late, 6),
			"a proxy loses it":                 on("POST", "?repack", 0, vykartest.Swallowed, 6),
			"it is cut short each time":        on("POST", "?repack", 0, vykartest.Short, 6),
			"the client does not wait for it":  on("POST", "?repack", 0, vykartest.Unanswered, 6),
			"the client dies":                  on("POST", "?repack", 0, vykartest.KilledAfter, 1),
			"the client dies before the index": on("PUT", "/index", 0, vykartest.KilledBefore, 1),
			"the index does not arrive":        on("PUT", "/index", 0, vykartest.Before, 6),
			"the index arrives in part":        on("PUT", "/index", 0, vykartest.Midway, 6),
			"the server is gone":               on("PUT", "/index", 0, vykartest.Refused, 1),
			"the second answer is lost":        on("POST", "?repack", 1, vykartest.Late, 6),
			"a proxy loses the second":         on("POST", "?repack", 1, vykartest.Swallowed, 6),
		} {
			t.Run(fmt.Sprintf("%s, batches of %d", name, batch), func(t *testing.T) {
				again := *f
				story(t, trialPlan{batch: batch}, func(x *trial) {
					x.dead(20)
					x.cutting = &again
					_, err := x.compact(x.a)
					x.cutting = nil
					if err == nil && again.done > 0 {
						x.j.fail("compact succeeded although %v", &again)
					}
					x.survives()
				})
			})
		}
	}
	for _, out := range []outage{{at: diesAfter}, {at: diesSilent}, {at: diesCommit, n: 1}, {at: diesAfter, power: true}} {
		t.Run(fmt.Sprintf("server %+v, then no network", out), func(t *testing.T) {
			story(t, trialPlan{}, func(x *trial) {
				x.dead(20)
				x.cutting = on("POST", "?repack", 0, vykartest.KilledAfter, 1)
				x.cutting.out = out
				_, err := x.compact(x.a)
				x.cutting = nil
				if err == nil {
					x.j.fail("compact succeeded")
				}
				x.survives()
			})
		})
	}
}

// TestTwoBatchesAfterOneCut: the second run finds the outputs of the first as orphans, most dead bytes first, and so
// removes them in one batch while another needs them.
func TestTwoBatchesAfterOneCut(t *testing.T) {
	for _, batch := range []int64{4 << 10, 16 << 10, 36 << 10} {
		t.Run(fmt.Sprintf("%d", batch), func(t *testing.T) {
			story(t, trialPlan{}, func(x *trial) {
				x.dead(90) // in more than thirty packs
				if packs := len(x.j.stored.Packs()); packs < 30 {
					t.Fatalf("%d packs", packs)
				}
				x.cutting = on("POST", "?repack", 0, vykartest.KilledAfter, 1)
				if _, err := x.compact(x.a); err == nil {
					x.j.fail("the client was not killed")
				}
				x.cutting = nil
				x.check(x.a, vykartest.Existence, false)
				x.a.o.Batch = batch
				done, err := x.compact(x.a)
				if err != nil || done.Batches < 2 {
					x.j.fail("compact: %+v, %v", done, err)
				}
				x.survives()
			})
		})
	}
}

// TestStaleSecondClient: one client has read the index, then another backs up, prunes and compacts; the first goes on
// with what it read.
func TestStaleSecondClient(t *testing.T) {
	for name, work := range map[string]func(x *trial){
		"backs up":             func(x *trial) { x.mustBackup(x.b, 9) },
		"compacts":             func(x *trial) { x.mustCompact(x.b) },
		"backs up, compacts":   func(x *trial) { x.mustBackup(x.b, 9); x.mustCompact(x.b) },
		"compacts, backs up":   func(x *trial) { x.mustCompact(x.b); x.mustBackup(x.b, 9) },
		"backs up what is old": func(x *trial) { x.mustBackup(x.b, 0) },
	} {
		for _, command := range []string{"compacts", "prunes", "prunes, compacts"} {
			t.Run(fmt.Sprintf("other %s, then it %s", name, command), func(t *testing.T) {
				story(t, trialPlan{second: true}, func(x *trial) {
					x.dead(12)
					x.mustBackup(x.a, 3)
					x.mustBackup(x.b, 3)
					if command == "compacts" {
						x.mustCompact(x.a) // so that only orphans are left to the stale run
					}
					r, err := x.process(x.a).Open()
					must(t, err)
					work(x)
					if command != "compacts" {
						_, err := r.Delete(x.oldest(x.a, 1)...)
						x.j.note("alpha: delete: %v", err)
						for _, name := range x.oldest(x.a, 1) {
							delete(x.must, name)
							x.may[name] = true
						}
					}
					if command != "prunes" {
						done, err := r.Compact()
						x.j.note("alpha: compact with an old view: %+v, %v", done, err)
					}
					x.j.look()
					x.survives()
				})
			})
		}
	}
}

// TestLostLock: another client takes the lock for stale while a compaction is under way, and does its own work. The
// first finds out, or, at the worst moment, does not.
func TestLostLock(t *testing.T) {
	for name, at := range map[string]func(r *http.Request) bool{
		"before the plan":  func(r *http.Request) bool { return r.URL.RawQuery == "repack" },
		"before the index": func(r *http.Request) bool { return r.Method == "PUT" && r.URL.Path == "/"+repositoryName+"/index" },
		"before the fence": func(r *http.Request) bool {
			return r.Method == "HEAD" && len(r.URL.Path) > 60 && r.URL.Path[7:12] == "locks"
		},
	} {
		for _, work := range []string{"backup", "compact", "both"} {
			t.Run(fmt.Sprintf("%s, by a %s", name, work), func(t *testing.T) {
				story(t, trialPlan{second: true, steals: vykartest.StaleAlways}, func(x *trial) {
					x.dead(12)
					x.mustBackup(x.b, 3)
					busy := false
					x.a.link.before = func(_ int, r *http.Request) {
						if busy || !at(r) {
							return
						}
						busy = true
						if work != "compact" {
							x.mustBackup(x.b, 5)
						}
						if work != "backup" {
							x.mustCompact(x.b)
						}
					}
					_, err := x.compact(x.a)
					x.a.link.before = nil
					if !busy {
						x.j.fail("the other client did nothing")
					}
					if err == nil && name != "before the index" || err != nil && !errors.Is(err, vykartest.ErrLostLock) && !tooLarge(err) {
						x.j.fail("compact without its lock: %v", err)
					}
					x.survives()
				})
			})
		}
	}
}

func (x *trial) mustBackup(h *host, n int) {
	x.t.Helper()
	var content [][]byte
	for _, name := range x.oldest(h, 0) {
		content = append(content, x.contents[name]...)
	}
	if _, err := x.backup(h, append(content, x.pool(n)...)); err != nil {
		x.j.fail("backup: %v", err)
	}
}

func (x *trial) mustCompact(h *host) {
	x.t.Helper()
	if _, err := x.compact(h); err != nil {
		x.j.fail("compact: %v", err)
	}
}
