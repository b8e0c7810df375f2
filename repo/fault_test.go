package repo_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/internal/sampling"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// step is one operation of a story that is interrupted at every possible point. do
// carries it out, state gives what a repository holds after it: items and what else observe finds.
type step struct {
	name  string
	do    func(a *repo.Access) error
	state func(held map[string]string)
}

func stepPut(key, body string) step {
	return step{"put " + key,
		func(a *repo.Access) error { _, err := put(a, key, body); return err },
		func(items map[string]string) { items[key] = body }}
}

var story = []step{
	stepPut("packs/a", "first pack"),
	stepPut("config", "version 1"),
	stepPut("config", "version 2, longer"),
	stepPut("locks/mine", "held"),
	{"delete", func(a *repo.Access) error { return a.Delete(ctx, "packs/a") },
		func(items map[string]string) { delete(items, "packs/a") }},
	stepPut("packs/b", strings.Repeat("b", 300_000)),
	{"move onto an item", func(a *repo.Access) error { return a.Move(ctx, "packs/b", "config") },
		func(items map[string]string) { items["config"] = items["packs/b"]; delete(items, "packs/b") }},
	{"checkpoint", func(a *repo.Access) error { return repo.IndexOf(a.Repository()).Checkpoint() }, func(map[string]string) {}},
	stepPut("packs/c", "x"),
	{"compact", func(a *repo.Access) error { return replace(a, []string{"packs/c", "config"}, "packs/d", "new pack") },
		func(items map[string]string) {
			delete(items, "packs/c")
			delete(items, "config")
			items["packs/d"] = "new pack"
		}},
	{"delete all", func(a *repo.Access) error {
		_, err := a.DeleteAll(ctx, []string{"packs/d", "locks/mine", "nothing"})
		return err
	},
		func(items map[string]string) { delete(items, "packs/d"); delete(items, "locks/mine") }},
	{"make directory", func(a *repo.Access) error { return a.MakeDir(ctx, "e") },
		func(held map[string]string) { held["directory e"] = "" }},
	{"remove directory", func(a *repo.Access) error { return a.RemoveDir(ctx, "e") },
		func(held map[string]string) { delete(held, "directory e") }},
	{"quota", func(a *repo.Access) error { return a.Repository().SetQuota(ctx, 1<<20) },
		func(held map[string]string) { held["quota"] = "1048576" }},
	{"lock", func(a *repo.Access) error {
		_, err := a.AcquireLock(ctx, "repo-lock", "me", nil, 100*time.Hour)
		return err
	},
		func(held map[string]string) { held["lock repo-lock"] = "me" }},
	stepPut("last", "item"),
}

// graceStory is of items that are removed and restored; the grace time is an hour.
var graceStory = []step{
	stepPut("packs/a", "first"),
	stepPut("packs/a", "second"),
	{"delete", func(a *repo.Access) error { return a.Delete(ctx, "packs/a") },
		func(held map[string]string) { delete(held, "packs/a") }},
	{"restore", func(a *repo.Access) error { return restore(a, "second", "") },
		func(held map[string]string) { held["packs/a"] = "second" }},
	{"restore under another key", func(a *repo.Access) error { return restore(a, "first", "d/b") },
		func(held map[string]string) { held["d/b"] = "first" }},
	{"move onto an item", func(a *repo.Access) error { return a.Move(ctx, "d/b", "packs/a") },
		func(held map[string]string) { held["packs/a"] = "first"; delete(held, "d/b"); held["directory d"] = "" }},
	{"compact", func(a *repo.Access) error { return replace(a, []string{"packs/a"}, "packs/c", "compacted") },
		func(held map[string]string) { delete(held, "packs/a"); held["packs/c"] = "compacted" }},
	{"restore what was compacted", func(a *repo.Access) error { return restore(a, "first", "") },
		func(held map[string]string) { held["packs/a"] = "first" }},
}

// restore puts the removed item of that body back.
func restore(a *repo.Access, body, key string) error {
	id := ""
	err := a.Repository().Trash(func(row index.Removed) error {
		if row.Item.BLAKE3 == blake3.Sum256([]byte(body)) {
			id = row.ID
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = a.Repository().Restore(ctx, id, key)
	return err
}

// observe is what a repository holds.
func observe(t *testing.T, a *repo.Access) (held map[string]string) {
	t.Helper()
	held = map[string]string{}
	for _, key := range list(t, a, "", true) {
		body, err := get(a, key)
		if err != nil {
			t.Errorf("read %q: %v", key, err)
		}
		held[key] = body
	}
	for _, dir := range []string{"d", "e"} {
		if _, err := a.Stat(ctx, dir); err == nil && len(list(t, a, dir, false)) == 0 {
			held["directory "+dir] = ""
		}
	}
	if limit := a.Repository().Usage().Limit; limit >= 0 {
		held["quota"] = fmt.Sprint(limit)
	}
	locks, err := a.Locks(ctx)
	if err != nil {
		t.Errorf("locks: %v", err)
	}
	for _, lock := range locks {
		held["lock "+lock.ID] = lock.Holder
	}
	return held
}

// replace stores one new item and deletes others, in one commit.
func replace(a *repo.Access, deletes []string, key, body string) error {
	return plan(a, 0, deletes, key, body)
}

// plan is replace with the bytes that it adds to the usage.
func plan(a *repo.Access, net int64, deletes []string, key, body string) error {
	reservation, err := a.Reserve(net, int64(len(body)), true)
	if err != nil {
		return err
	}
	defer reservation.Release()
	u, err := a.NewUpload(ctx, repo.UploadOptions{Key: key, Size: int64(len(body)), Reservation: reservation})
	if err != nil {
		return err
	}
	defer u.Discard()
	if _, err := u.Write([]byte(body)); err != nil {
		return err
	}
	if err := u.Finish(ctx, key, repo.Verified{}); err != nil {
		return err
	}
	batch := repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Job: &index.Job{ID: "job", Record: []byte("done")}, Reservation: reservation}
	for _, d := range deletes {
		batch.Deletes = append(batch.Deletes, repo.BatchDelete{Key: d, IgnoreMissing: true})
	}
	_, err = a.Commit(ctx, batch)
	return err
}

// run carries out the story until a step fails. It returns what must be there: certain is what
// was acknowledged, possible what the failing step would have made of it.
func run(a *repo.Access, story []step) (certain, possible map[string]string, failed error) {
	certain = map[string]string{}
	for _, s := range story {
		possible = maps.Clone(certain)
		s.state(possible)
		if err := s.do(a); err != nil {
			return certain, possible, fmt.Errorf("%s: %w", s.name, err)
		}
		certain = possible
	}
	return certain, certain, nil
}

// afterwards opens the repository again on a sound disk, when all grace times are over, and wants it to hold
// one of the two states, with exact counters and no file too many.
func afterwards(t *testing.T, dir string, small int64, certain, possible map[string]string) {
	t.Helper()
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{
		Now: func() time.Time { return time.Now().Add(2 * time.Hour) }, Small: small,
	}})
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatalf("open again: %v", err)
	}
	a := r.As(repo.Principal{})
	got := observe(t, a)
	if !maps.Equal(got, certain) && !maps.Equal(got, possible) {
		t.Errorf("it holds %.200q, want %.200q or %.200q", got, certain, possible)
	}
	checkAll(t, s)
	waitFor(t, "the trash to empty", func() bool { return r.Usage().TrashItems == 0 })
	if placed, incoming := blobFiles(t, filepath.Join(dir, "r")); placed != inFiles(t, r) || incoming != 0 {
		t.Errorf("%d blobs and %d unfinished for %d items", placed, incoming, inFiles(t, r))
	}
	if _, err := put(a, "afterwards", "works"); err != nil {
		t.Errorf("put afterwards: %v", err)
	}
}

// storyOn tells a story to the repository in dir, on fsys; items of up to small bytes go to the log.
func storyOn(t *testing.T, dir string, fsys vfs.FS, small int64, hooks index.Options, story []step) (certain, possible map[string]string, failed error) {
	t.Helper()
	hooks.Database = vfstest.Bolt(t, fsys)
	s := datadir.Open(datadir.Options{
		Dir: dir, Environment: repo.Environment{FS: fsys, Index: hooks, Small: small},
		Settings: func(string) repo.Settings {
			settings := repo.Settings{Quota: -1}
			if &story[0] == &graceStory[0] {
				settings.Grace = time.Hour
			}
			return settings
		},
	})
	r, err := s.Get(ctx, "r")
	if f, ok := fsys.(*vfstest.Failing); ok && f.Hit() && err != nil { // the log is opened for writing
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return map[string]string{}, map[string]string{}, err
	}
	if err != nil {
		t.Fatal(err)
	}
	certain, possible, failed = run(r.As(repo.Principal{}), story)
	if failed != nil && errors.Is(failed, repo.ErrReadOnly) {
		if h := r.Health(); !h.ReadOnly || strings.Contains(h.Reason, dir) {
			t.Errorf("health after %v: %+v", failed, h)
		}
		if _, err := put(r.As(repo.Principal{}), "more", ""); !errors.Is(err, repo.ErrReadOnly) {
			t.Errorf("put after %v: got %v, want ErrReadOnly", failed, err)
		}
	}
	if err := s.Close(); err != nil && failed == nil {
		if f, ok := fsys.(*vfstest.Failing); !ok || !f.Hit() { // what a stop gives back of the log is no part of the story
			t.Error(err)
		}
	}
	return certain, possible, failed
}

// TestEveryFileCallFails fails the n-th file operation of the story, for every n: once without
// effect, once with the effect but an error.
func TestEveryFileCallFails(t *testing.T) {
	share := sampling.NewShare(t, 3)
	for _, mode := range modes {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for n, hit := 1, true; hit; n++ {
				if !share.Takes() {
					continue
				}
				t.Run(fmt.Sprintf("%s%s/%d", mode.name, when, n), func(t *testing.T) {
					dir := newRepository(t)
					fsys := vfstest.NewFailing(vfs.OS())
					fsys.FailAt(n, when, syscall.EIO)
					certain, possible, _ := storyOn(t, dir, fsys, mode.small, index.Options{}, story)
					hit = fsys.Hit()
					afterwards(t, dir, mode.small, certain, possible)
				})
			}
		}
	}
}

// TestFullDiskFailsOneUpload: a write that finds the disk full is that upload's failure alone.
func TestFullDiskFailsOneUpload(t *testing.T) {
	dir := newRepository(t)
	fsys := vfstest.NewFailing(vfs.OS())
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{
		FS:    fsys,
		Index: index.Options{FS: vfs.OS()}, // the log makes its next segment in the background
	}})
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	fsys.FailOp(vfstest.Write, 1, vfstest.Before, syscall.ENOSPC) // whatever the background does meanwhile
	if _, err := put(a, "x", "body"); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("put on a full disk: got %v, want ErrNoSpace", err)
	}
	fsys.Reset()
	if _, err := put(a, "x", "body"); err != nil {
		t.Errorf("put when there is space again: %v", err)
	}
	checkAll(t, s)
}

// TestEveryIndexCommitFails does the same with the commits of the index: not applied,
// and applied yet reported as failed.
func TestEveryIndexCommitFails(t *testing.T) {
	for name, story := range map[string][]step{"": story, "grace/": graceStory} {
		for _, mode := range modes {
			everyIndexCommitFails(t, name+mode.name, mode.small, story)
		}
	}
}

func everyIndexCommitFails(t *testing.T, name string, small int64, story []step) {
	share := sampling.NewShare(t, 2)
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n, hit := 1, true; hit; n++ {
			if !share.Takes() {
				continue
			}
			t.Run(fmt.Sprintf("%s%s/%d", name, when, n), func(t *testing.T) {
				dir := newRepository(t)
				commits := 0
				hit = false
				fail := func() error {
					if commits++; commits == n {
						hit = true
						return errors.New("the disk is on fire")
					}
					return nil
				}
				hooks := index.Options{BeforeCommit: fail}
				if when == vfstest.After {
					hooks = index.Options{AfterCommit: fail}
				}
				certain, possible, err := storyOn(t, dir, vfs.OS(), small, hooks, story)
				if !hit && err != nil {
					t.Errorf("nothing failed, but: %v", err)
				}
				afterwards(t, dir, small, certain, possible)
			})
		}
	}
}

// TestUnknownCommitIsNotActedOn: of a commit that was written, but not synced, nobody knows whether it will be there after
// a restart. So no client is told that its bytes are safe, nor that others are in their place, and neither are removed.
func TestUnknownCommitIsNotActedOn(t *testing.T) {
	dir := newRepository(t)
	failing := false
	now := time.Now()
	s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{
		Now: func() time.Time { return now },
		Index: index.Options{AfterCommit: func() error {
			if failing {
				return errors.New("sync failed")
			}
			return nil
		}},
	}})
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.As(repo.Principal{}), "packs/x", "old")
	failing = true
	if _, err := put(r.As(repo.Principal{}), "packs/x", "new"); !errors.Is(err, repo.ErrReadOnly) {
		t.Fatalf("put: got %v, want ErrReadOnly", err)
	}
	again := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	if result, err := put(again, "packs/x", "new"); !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("put again: got %+v, %v, want ErrReadOnly", result, err)
	}
	if err := r.ReclaimSome(ctx); !errors.Is(err, repo.ErrReadOnly) {
		t.Errorf("reclaim: got %v, want ErrReadOnly", err)
	}
	if placed, _ := blobFiles(t, filepath.Join(dir, "r")); placed != 2 {
		t.Errorf("%d blobs are left, want the old and the new", placed)
	}
}

// TestPowerFailsAnywhere stops at every file operation and forgets all that was not synced (or a random
// part of it). What was acknowledged is there.
func TestPowerFailsAnywhere(t *testing.T) {
	share := sampling.NewShare(t, 5)
	for _, mode := range modes {
		for n, hit := 1, true; hit; n++ {
			for seed := range uint64(3) {
				if !share.Takes() {
					continue
				}
				t.Run(fmt.Sprintf("%s%d/%d", mode.name, n, seed), func(t *testing.T) {
					dir := newRepository(t)
					lossy := vfstest.NewLossy(t, dir)
					fsys := vfstest.NewFailing(lossy)
					fsys.StopAt(n, vfstest.Before, syscall.EIO)
					certain, possible, _ := storyOn(t, dir, fsys, mode.small, index.Options{}, story)
					hit = fsys.Hit()
					var random *rand.Rand // nil forgets everything
					if seed > 0 {
						random = rand.New(rand.NewPCG(seed, uint64(n)))
					}
					if err := lossy.Crash(random); err != nil {
						t.Fatal(err)
					}
					afterwards(t, dir, mode.small, certain, possible)
				})
			}
		}
	}
}
