package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/internal/sampling"
)

// twins are an index on a disk that fails and forgets, and a sound one to which the same is done as far as it was acknowledged.
type twins struct {
	t         *testing.T
	path      string
	x, sound  *index.Index
	disk      *vfstest.Lossy
	calls     *vfstest.Failing
	refs      int              // that were used
	removed   []string         // the last row of the trash
	uncertain []index.Mutation // the group of which it is not known whether it was done; nil: there is none
}

// newTwins opens two empty indexes.
func newTwins(t *testing.T) *twins {
	t.Helper()
	w := &twins{t: t, path: memoryIndex(t)}
	sound, err := index.Open(memoryIndex(t), index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.sound = sound
	t.Cleanup(func() {
		if err := w.sound.Close(); err != nil {
			t.Error(err)
		}
	})
	w.insert()
	w.open()
	return w
}

// memoryPath is for an index on a file system in memory, where there is one.
func memoryPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "packhouse-index-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "index.db")
}

// memoryIndex makes an index there.
func memoryIndex(t *testing.T) (path string) {
	t.Helper()
	path = memoryPath(t)
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// insert takes what the disk holds as durable from now on.
func (w *twins) insert() {
	w.disk = vfstest.NewLossy(w.t, filepath.Dir(w.path))
	w.calls = vfstest.NewFailing(w.disk)
}

// open opens the index, and tells whether that succeeded: it must, but on a disk that fails.
func (w *twins) open() bool {
	w.t.Helper()
	x, err := index.Open(w.path, index.Options{FS: w.calls, Database: vfstest.Bolt(w.t, w.calls), SegmentSize: 16 << 10})
	if err != nil {
		w.failed("open", err)
		return false
	}
	x.SetCheckpointStep(50)
	w.x = x
	return true
}

// failed wants an error to have a reason.
func (w *twins) failed(what string, err error) {
	w.t.Helper()
	if !w.calls.Hit() {
		w.t.Fatalf("%s: %v on a disk that is sound", what, err)
	}
	if strings.Contains(err.Error(), filepath.Dir(w.path)) {
		w.t.Errorf("%s: a path in %v", what, err)
	}
}

// apply does a group to both; false when that failed for the disk's sake.
func (w *twins) apply(muts ...index.Mutation) (results []index.Result, ok bool) {
	w.t.Helper()
	results, err := w.x.Apply(background, muts...)
	var refused *index.GroupError
	if err != nil && !errors.As(err, &refused) {
		w.failed("apply", err)
		if errors.Is(err, index.ErrFailed) {
			w.uncertain = muts
		}
		return nil, false
	}
	same, soundErr := w.sound.Apply(background, muts...)
	if fmt.Sprint(err) != fmt.Sprint(soundErr) || len(results) != len(same) {
		w.t.Fatalf("apply: got %v, want %v", err, soundErr)
	}
	return results, true
}

// do calls something that changes nothing that can be seen.
func (w *twins) do(what string, err error) bool {
	w.t.Helper()
	if err != nil {
		w.failed(what, err)
	}
	return err == nil
}

func (w *twins) checkpoint() bool { w.t.Helper(); return w.do("checkpoint", w.x.Checkpoint()) }
func (w *twins) rewrite() bool    { w.t.Helper(); return w.do("rewrite", w.x.Rewrite(background)) }

// vacuum stores the payloads of all segments but the last again, and removes those with a checkpoint.
func (w *twins) vacuum() bool {
	w.t.Helper()
	all, err := w.x.Segments()
	if err != nil {
		return w.do("segments", err)
	}
	for _, s := range all[:len(all)-1] {
		refs, err := w.x.Payloads(s.First, 1000)
		if err != nil {
			return w.do("payloads", err)
		}
		var muts []index.Mutation
		for _, ref := range refs {
			payload, err := w.x.Payload(ref, false, nil)
			if err != nil {
				return w.do("payload", err)
			}
			muts = append(muts, index.Relocate{Ref: ref, Payload: payload})
		}
		if _, err := w.x.Apply(background, muts...); err != nil {
			return w.do("relocate", err)
		}
	}
	return w.checkpoint()
}

// cut cuts the power, at once, and opens the index when it is back; nil: all that was not synced is lost. Opening may be interrupted by
// further cuts: behind so many calls of the file system.
func (w *twins) cut(random *rand.Rand, opening ...int) {
	w.t.Helper()
	for _, n := range append(opening, 0) {
		w.calls.StopAt(1, vfstest.Before, syscall.EIO)
		if w.x != nil {
			_ = w.x.Close() // of a disk that fails
			w.x = nil
		}
		if err := w.disk.Crash(random); err != nil {
			w.t.Fatal(err)
		}
		w.insert()
		if n > 0 {
			w.calls.StopAt(n, vfstest.Before, syscall.EIO)
		}
		w.open()
	}
	w.compare()
}

// restart closes the index, on a disk that is sound from now on, and opens it again.
func (w *twins) restart() {
	w.t.Helper()
	w.calls.Reset()
	if w.x != nil {
		if err := w.x.Close(); err != nil && w.x.Failed() == nil {
			w.t.Error(err)
		}
	}
	w.insert()
	w.open()
	w.compare()
}

// compare wants both to hold the same, with the group that is uncertain or without it.
func (w *twins) compare() {
	w.t.Helper()
	got, want := everything(w.t, w.x), everything(w.t, w.sound)
	if w.uncertain != nil && got != want {
		if _, err := w.sound.Apply(background, w.uncertain...); err != nil {
			w.t.Error(err)
		}
		want = everything(w.t, w.sound)
	}
	w.uncertain = nil
	if got != want {
		w.t.Fatalf("it holds\n%s\nwant\n%s", got, want)
	}
	checkWhole(w.t, w.x)
}

// powerStory are steps that use the disk in every way; each tells whether it succeeded.
var powerStory = []func(*twins) bool{
	stepGroup(0, 16), stepGroup(16, 32), (*twins).checkpoint,
	stepGroup(24, 40), (*twins).rewrite,
	stepGroup(0, 8), (*twins).vacuum,
	func(w *twins) bool { err := w.x.Close(); w.do("close", err); w.x = nil; return err == nil && w.open() },
	stepGroup(40, 44),
}

// stepGroup stores and overwrites items, also such that lie in the log, removes one, and purges the one that was removed before.
func stepGroup(from, to int) func(*twins) bool {
	return func(w *twins) bool {
		w.t.Helper()
		muts := []index.Mutation{index.PurgeTrash{IDs: w.removed}}
		for n := from; n < to; n++ {
			p := putBytes(fmt.Sprintf("log/%d", n), bytes.Repeat([]byte{byte(n)}, 40*n))
			if n%4 == 0 {
				p = putRef(fmt.Sprintf("file/%d", n), fmt.Sprintf("ref-%d", w.refs), 1)
				w.refs++
			}
			muts = append(muts, p)
		}
		results, ok := w.apply(append(muts, index.Delete{Key: fmt.Sprintf("log/%d", from+1), TrashUntil: clock})...)
		if ok {
			w.removed = []string{results[len(results)-1].TrashID}
		}
		return ok
	}
}

// tell carries out the story until a step fails. One that has changed nothing is tried again.
func (w *twins) tell() {
	w.t.Helper()
	for _, step := range powerStory {
		if !step(w) && (w.x == nil || w.x.Failed() != nil || !step(w)) {
			return
		}
	}
}

// TestPowerFailsAtEveryCall cuts the power at every call of the story to the file system, those of bbolt too, and loses all that was not
// synced, or any part of it.
func TestPowerFailsAtEveryCall(t *testing.T) {
	share := sampling.NewShare(t, 3)
	for n, hit := 1, true; hit; n++ {
		for _, name := range []string{"all", "some"} {
			if !share.Takes() {
				continue
			}
			t.Run(fmt.Sprintf("%d/lose=%s", n, name), func(t *testing.T) {
				var random *rand.Rand // nil loses everything
				if name == "some" {
					random = rand.New(rand.NewPCG(uint64(n), sampling.Seed(t)))
				}
				w := newTwins(t)
				w.calls.StopAt(n, vfstest.Before, syscall.EIO)
				w.tell()
				hit = w.calls.Hit()
				w.cut(random)
				w.apply(put("goes on", 1))
				w.restart()
			})
		}
	}
}

// TestEveryFileCallFails lets every call of the story to the file system fail once, those of bbolt too: because the disk is
// broken, also with its effect nevertheless, and because the disk is full.
func TestEveryFileCallFails(t *testing.T) {
	share := sampling.NewShare(t, 4)
	for n, hit := 1, true; hit; n++ {
		for _, kind := range []struct {
			name string
			when vfstest.When
			err  error
		}{{"before", vfstest.Before, syscall.EIO}, {"after", vfstest.After, syscall.EIO}, {"full", vfstest.Before, syscall.ENOSPC}} {
			if !share.Takes() {
				continue
			}
			t.Run(fmt.Sprintf("%d/%s", n, kind.name), func(t *testing.T) {
				w := newTwins(t)
				w.calls.FailAt(n, kind.when, kind.err)
				w.tell()
				hit = w.calls.Hit()
				w.restart()
				w.apply(put("goes on", 1))
				w.restart()
			})
		}
	}
}

// failByChance lets one call fail, or all from that one on.
func (w *twins) failByChance(random *rand.Rand) {
	n, when := 1+random.IntN(200), vfstest.When(random.IntN(2))
	switch random.IntN(4) {
	case 0:
		w.calls.FailAt(n, when, syscall.EIO)
	case 1:
		w.calls.FailAt(n, vfstest.Before, syscall.ENOSPC)
	default:
		w.calls.StopAt(n, when, syscall.EIO)
	}
}

// TestPowerFailsByChance does at random what an index can do, while calls fail, and cuts the power again and again, also while
// the index is opened.
func TestPowerFailsByChance(t *testing.T) {
	for seed := range sampling.Seeds(t, 30, 60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			w, g := newTwins(t), &generator{now: clock}
			group := rapid.Custom(func(rt *rapid.T) (muts []index.Mutation) {
				for range 1 + random.IntN(6) {
					m := g.draw(rt)
					if p, ok := m.(index.Put); ok && random.IntN(2) == 0 {
						p.Payload = bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(3000))
						p.Item.Size, p.Item.Ref = int64(len(p.Payload)), ""
						m = p
					}
					muts = append(muts, m)
				}
				return muts
			})
			w.failByChance(random)
			for range 100 {
				ok := true
				switch random.IntN(20) {
				case 0:
					ok = w.checkpoint()
				case 1:
					ok = w.rewrite()
				case 2:
					ok = w.vacuum()
				default:
					var results []index.Result
					results, ok = w.apply(group.Example(random.Int())...)
					for _, r := range results {
						if r.TrashID != "" {
							g.ids = append(g.ids, r.TrashID)
						}
					}
				}
				if ok || w.x.Failed() == nil && random.IntN(4) > 0 { // nothing was changed
					continue
				}
				if random.IntN(4) == 0 {
					w.restart()
				} else {
					var opening []int
					for random.IntN(2) == 0 {
						opening = append(opening, 1+random.IntN(20))
					}
					w.cut(random, opening...)
				}
				w.failByChance(random)
			}
			w.cut(nil)
			w.restart()
		})
	}
}
