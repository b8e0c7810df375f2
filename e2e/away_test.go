//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What lies below a running server is taken away while clients write: the volume of the data directory is unmounted, the
// directory of a repository is renamed, removed or replaced. No acknowledged write may be lost: what was acknowledged
// before is in what was taken away, what is acknowledged after is in what lies under the name. And afterwards everything
// works, without a restart.

// ack is a write that was acknowledged.
type ack struct {
	name     string
	from, to time.Time // of the request
}

// writers store small items as fast as they can, and make the repository when there is none.
type writers struct {
	t       *testing.T
	clients []*storeClient

	mu       sync.Mutex
	acks     []ack
	statuses map[int]int // of refusals
	lost     int         // requests whose connection ended
	stopped  atomic.Bool
	group    sync.WaitGroup
}

func startWriters(t *testing.T, clients []*storeClient) *writers {
	w := &writers{t: t, clients: clients, statuses: make(map[int]int)}
	for i, client := range clients {
		w.group.Go(func() {
			for n := 0; !w.stopped.Load(); n++ {
				name, from := fmt.Sprintf("data/w%d-%d", i, n), time.Now()
				err := client.store(name, []byte(name))
				w.note(name, from, err)
				var status *statusError
				switch {
				case err == nil:
				case errors.As(err, &status) && status.status == http.StatusGone:
					_ = client.create() // another may have been first, or it is refused: the next write tells
				default:
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

func (w *writers) note(name string, from time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var status *statusError
	switch {
	case err == nil:
		w.acks = append(w.acks, ack{name, from, time.Now()})
	case errors.As(err, &status):
		w.statuses[status.status]++
	default:
		w.lost++
	}
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acks)
}

// more waits for so many acknowledged writes.
func (w *writers) more(n int) {
	w.t.Helper()
	before := w.count()
	for deadline := time.Now().Add(time.Minute); w.count() < before+n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d writes were acknowledged in a minute, want %d; refusals %v", w.count()-before, n, w.statuses)
		}
	}
}

func (w *writers) stop() {
	w.stopped.Store(true)
	w.group.Wait()
}

// found are the items that a client finds, each with the bytes that were stored.
func found(t *testing.T, client *storeClient) map[string]bool {
	t.Helper()
	items := make(map[string]bool)
	err := client.walk("", func(name string, _ int64) {
		if value, err := client.load(name); err != nil || string(value) != name && strings.HasPrefix(name, "data/") {
			t.Errorf("%s: %d bytes, %v", name, len(value), err)
		}
		items[name] = true
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// compare holds what was acknowledged against what is there; moved is nil when that was removed.
func (w *writers) compare(began, ended time.Time, moved, now map[string]bool) {
	w.t.Helper()
	before, after := 0, 0
	for _, a := range w.acks {
		switch {
		case a.to.Before(began):
			before++
			if moved != nil && !moved[a.name] {
				w.t.Errorf("%s was acknowledged before, and is not in what was taken away", a.name)
			}
		case a.from.After(ended):
			after++
			if !now[a.name] {
				w.t.Errorf("%s was acknowledged after, and is not in what lies under the name", a.name)
			}
		case moved != nil && !moved[a.name] && !now[a.name]:
			w.t.Errorf("%s was acknowledged meanwhile, and is nowhere", a.name)
		}
	}
	for status, n := range w.statuses {
		// While the files of a directory are removed one by one its index may be gone and its blobs not: that is damage.
		if status != http.StatusServiceUnavailable && status != http.StatusGone && !(moved == nil && status == http.StatusInternalServerError) {
			w.t.Errorf("%d writes were refused with %d; want 503, or 410 where there is no repository", n, status)
		}
	}
	w.t.Logf("%d writes were acknowledged before, %d after; refusals %v, %d without an answer", before, after, w.statuses, w.lost)
}

// volume is a file system of its own at a directory, or something like it.
type volume struct {
	t      *testing.T
	dir    string // where it is mounted
	device string // "": it is not real
}

// newVolume makes a file system in a file and mounts it. Where that is not allowed the volume is a directory that is
// renamed: to the server it looks the same, but for the device.
func newVolume(t *testing.T, dir string) *volume {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v := &volume{t: t, dir: dir}
	image := filepath.Join(t.TempDir(), "image")
	script := fmt.Sprintf("set -e; export PATH=$PATH:/usr/sbin:/sbin; truncate -s 512M '%[1]s'; mkfs.ext4 -q '%[1]s'; losetup --find --show '%[1]s'", image)
	if out, err := exec.Command("sh", "-c", script).Output(); err == nil {
		v.device = strings.TrimSpace(string(out))
		t.Cleanup(func() {
			_ = exec.Command("umount", "-l", dir).Run()
			_ = exec.Command("losetup", "-d", v.device).Run()
		})
		if out, err := exec.Command("mount", v.device, dir).CombinedOutput(); err == nil {
			return v
		} else {
			t.Logf("mount: %s", out)
		}
	}
	v.device = ""
	note(t, "no file system could be mounted, which takes root and a loop device: the volume that goes away was a FAKE, a directory that was renamed")
	return v
}

// note says at the end of `make test` that a test did less than it should. It goes on.
func note(t *testing.T, what string) {
	t.Helper()
	t.Log(what)
	if path := os.Getenv("PACKHOUSE_SKIPPED"); path != "" {
		if f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			fmt.Fprintf(f, "%s: %s\n", t.Name(), what)
			f.Close()
		}
	}
}

func (v *volume) unmount() {
	v.t.Helper()
	if v.device != "" {
		run(v.t, nil, "umount", "-l", v.dir)
		return
	}
	if err := errors.Join(os.Rename(v.dir, v.dir+".away"), os.Mkdir(v.dir, 0o755)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *volume) mount() {
	v.t.Helper()
	if v.device != "" {
		run(v.t, nil, "mount", v.device, v.dir)
		return
	}
	if err := errors.Join(os.Remove(v.dir), os.Rename(v.dir+".away", v.dir)); err != nil {
		v.t.Fatal(err)
	}
}

// free waits until nobody has the volume open any more, and has the file system checked.
func (v *volume) free() {
	v.t.Helper()
	if v.device == "" {
		return
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := exec.Command("sh", "-c", "PATH=$PATH:/usr/sbin:/sbin e2fsck -f -p "+v.device).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("the file system cannot be checked, so somebody still has it open: %v\n%s", err, out)
		}
	}
}

// empty demands that nothing was made where the volume was mounted.
func (v *volume) empty() {
	v.t.Helper()
	if left, err := os.ReadDir(v.dir); err != nil || len(left) > 0 {
		v.t.Errorf("below the mount point there is %v (%v), want nothing", left, err)
	}
}

// TestVolumeTakenAway unmounts the data directory's volume while clients write, lets an administrator check it, and mounts
// it again, twice. Meanwhile everything is refused, nothing is made on the disk below, health says so, and a
// scrub marks nothing. Then the server goes on by itself.
func TestVolumeTakenAway(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.expectErrors = "the data directory is (still )?missing or not the one that was opened"
	v := newVolume(t, s.data)
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(t, tokenFile, token+"\n", 0o600)
	s.args = []string{"serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json"}
	s.start()
	b := newBorg(t, s.url("laptop"))
	b.run("repo-create", "--encryption", "aes256-ocb")
	tr := newTree(t, 21, 50, 8<<20)
	b.run("create", "first", tr.dir)

	client := newStoreClient(s, "load", 8)
	if err := client.create(); err != nil {
		t.Fatal(err)
	}
	w := startWriters(t, []*storeClient{client, client, client, client})
	w.more(50)
	for range 2 {
		v.unmount()
		unmounted := time.Now()
		for _, c := range []struct{ method, target string }{{"POST", "/?cmd=create"}, {"GET", "/data/w0-0"}, {"GET", "//"}} {
			for _, repository := range []string{"load", "new", "laptop"} {
				_, err := newStoreClient(s, repository, 1).do(c.method, c.target, nil)
				var status *statusError
				if !errors.As(err, &status) || status.status != http.StatusServiceUnavailable {
					t.Errorf("%s %s of %s without its volume: %v, want 503", c.method, c.target, repository, err)
				}
			}
		}
		out, code := try(t, append(b.env, "BORG_LOCK_WAIT=1"), b.program, "repo-list")
		if code == 0 || strings.Contains(out, "does not exist") {
			t.Errorf("borg repo-list without the volume: exit code %d\n%s", code, lastLines(out, 5))
		}
		health, err := s.health(http.DefaultClient)
		if err != nil || health["status"] != "degraded" || health["detached"] != true {
			t.Errorf("health without the volume: %v, %v", health, err)
		}
		count := w.count()
		time.Sleep(1500 * time.Millisecond)
		v.empty()
		if n := w.count() - count; n > 0 {
			t.Errorf("%d writes were acknowledged without a volume", n)
		}
		v.free()
		v.mount()
		w.more(50) // it goes on by itself
		t.Logf("without the volume for %v", time.Since(unmounted).Round(time.Millisecond))
	}
	w.stop()
	now := found(t, client)
	for _, a := range w.acks {
		if !now[a.name] {
			t.Errorf("%s was acknowledged, and is not there", a.name)
		}
	}
	for status, n := range w.statuses {
		if status != http.StatusServiceUnavailable {
			t.Errorf("%d writes were refused with %d, want 503", n, status)
		}
	}
	health, err := s.health(http.DefaultClient)
	if err != nil || health["status"] != "ok" {
		t.Errorf("health with the volume: %v, %v", health, err)
	}
	b.run("check", "--verify-data")
	b.run("create", "second", tr.dir)
	look(t, filepath.Join(b.extract(b.archives()[0]), tr.dir)).same(t, look(t, tr.dir))
	run(t, nil, packhouse(), "scrub", "--repo", "load", "--wait", "--data-dir", s.data)
	run(t, nil, packhouse(), "check", "--verify", "--data-dir", s.data)
	s.stop()
	run(t, nil, packhouse(), "check", "--verify", "--data-dir", s.data)
	t.Logf("%d writes were acknowledged; refusals %v", len(w.acks), w.statuses)
}

// taking is what is done to the directory of a repository.
type taking struct {
	name  string
	do    func(dir string) error
	moved bool // it lies at dir.away afterwards
}

// without does it to a repository that has no older copy which could take its place.
func without(c taking, dir string) error {
	if c.name == "replaced" {
		return os.Rename(dir, dir+".away")
	}
	return c.do(dir)
}

var takings = []taking{
	{"renamed", func(dir string) error { return os.Rename(dir, dir+".away") }, true},
	{"removed", func(dir string) (err error) {
		for range 1000 { // the server may make a file in it meanwhile
			if err = os.RemoveAll(dir); err == nil {
				break
			}
		}
		return err
	}, false},
	{"replaced", func(dir string) error {
		// In one step: between two a client would make a new repository.
		err := unix.Renameat2(unix.AT_FDCWD, dir+".older", unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
		return errors.Join(err, os.Rename(dir+".older", dir+".away"))
	}, true},
}

// TestDirectoryTakenAwayOverHTTP is for a repository of a server.
func TestDirectoryTakenAwayOverHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range takings {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			if c.name == "removed" { // its files go one by one: what a request finds meanwhile has lost some
				s.expectErrors = "index is lost|index of the repository is damaged|is missing|read-only"
			}
			client, dir := newStoreClient(s, "laptop", 8), filepath.Join(s.data, "laptop")
			if c.name == "replaced" {
				older := newStoreClient(s, "laptop.older", 1)
				if err := older.create(); err != nil {
					t.Fatal(err)
				}
				if err := older.store("data/old", []byte("data/old")); err != nil {
					t.Fatal(err)
				}
			}
			if err := client.create(); err != nil {
				t.Fatal(err)
			}
			w := startWriters(t, []*storeClient{client, client, client, client})
			w.more(50)
			began := time.Now()
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			ended := time.Now()
			w.more(50)
			w.stop()
			var moved map[string]bool
			if c.moved {
				moved = found(t, newStoreClient(s, "laptop.away", 1)) // at once, under its new name
			}
			now := found(t, client)
			w.compare(began, ended, moved, now)
			if c.name == "replaced" && !now["data/old"] {
				t.Error("what lies under the name is not the replacement")
			}
			if c.name == "replaced" { // the older one has another name now
				run(t, nil, packhouse(), "repo", "destroy", "laptop.older", "--yes", "--data-dir", s.data)
			}
			// All is as if it had always lain there, also to a server that starts.
			run(t, nil, packhouse(), "check", "--verify", "--data-dir", s.data)
			s.stop()
			run(t, nil, packhouse(), "check", "--verify", "--data-dir", s.data)
			s.start()
			w.compare(began, ended, moved, found(t, client))
			// What a client with a repository of its own does then.
			b := newBorg(t, s.url("borg"))
			b.run("repo-create", "--encryption", "aes256-ocb")
			tr := newTree(t, 22, 20, 1<<20)
			b.run("create", "first", tr.dir)
			if err := without(c, filepath.Join(s.data, "borg")); err != nil {
				t.Fatal(err)
			}
			b = newBorg(t, s.url("borg"))
			b.run("repo-create", "--encryption", "aes256-ocb")
			b.run("create", "second", tr.dir)
			b.run("check", "--verify-data")
		})
	}
}

// TestDirectoryTakenAwayOverStdio is for one that a process in the background holds, for clients over ssh.
func TestDirectoryTakenAwayOverStdio(t *testing.T) {
	t.Parallel()
	for _, c := range takings {
		t.Run(c.name, func(t *testing.T) {
			h := &holderProcess{t: t, home: t.TempDir()}
			h.dir = filepath.Join(h.home, "repository")
			for _, suffix := range []string{"", ".older", ".away"} {
				letGo(t, h.dir+suffix)
			}
			t.Cleanup(h.pipes.Wait)
			at := func(suffix string) *storeClient {
				other := &holderProcess{t: t, home: h.home, dir: h.dir + suffix, backend: "repository" + suffix}
				t.Cleanup(other.pipes.Wait)
				return other.client()
			}
			if c.name == "replaced" {
				older := at(".older")
				if err := older.create(); err != nil {
					t.Fatal(err)
				}
				if err := older.store("data/old", []byte("data/old")); err != nil {
					t.Fatal(err)
				}
			}
			clients := make([]*storeClient, 4)
			for i := range clients {
				clients[i] = h.client()
			}
			if err := clients[0].create(); err != nil {
				t.Fatal(err)
			}
			was := holderOf(h.dir)
			w := startWriters(t, clients)
			w.more(50)
			began := time.Now()
			if err := c.do(h.dir); err != nil {
				t.Fatal(err)
			}
			ended := time.Now()
			w.more(50)
			w.stop()
			var moved map[string]bool
			if c.moved {
				moved = found(t, at(".away"))
			}
			now := found(t, clients[0])
			w.compare(began, ended, moved, now)
			if c.name == "replaced" && !now["data/old"] {
				t.Error("what lies under the name is not the replacement")
			}
			for deadline := time.Now().Add(time.Minute); alive(was); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the holder of the directory that was taken away still runs after a minute")
				}
			}
			run(t, nil, packhouse(), "check", "--verify", "--data-dir", h.dir)

			b := overShell(t, h.home, "")
			b.env = append(b.env, "BORG_REPO="+b.remote("borg"))
			letGo(t, filepath.Join(h.home, "borg"))
			letGo(t, filepath.Join(h.home, "borg.away"))
			b.run("repo-create", "--encryption", "aes256-ocb")
			tr := newTree(t, 23, 20, 1<<20)
			b.run("create", "first", tr.dir)
			if err := without(c, filepath.Join(h.home, "borg")); err != nil {
				t.Fatal(err)
			}
			again := overShell(t, h.home, "")
			again.env = append(again.env, "BORG_REPO="+again.remote("borg"))
			again.run("repo-create", "--encryption", "aes256-ocb")
			again.run("create", "second", tr.dir)
			again.run("check", "--verify-data")
		})
	}
}
