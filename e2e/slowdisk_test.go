//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// freeze lets all writes to the file system at dir wait until the returned function is called, two minutes at most: a process that waits
// for it cannot be killed.
func freeze(t *testing.T, dir string) (thaw func()) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	const fifreeze, fithaw = 0xC0045877, 0xC0045878
	if err := unix.IoctlSetInt(int(f.Fd()), fifreeze, 0); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	thaw = sync.OnceFunc(func() {
		_ = unix.IoctlSetInt(int(f.Fd()), fithaw, 0)
		f.Close()
	})
	time.AfterFunc(2*time.Minute, thaw)
	t.Cleanup(thaw)
	return thaw
}

// hang mounts a file system at dir that never answers anything, until the test ends: nobody reads what the kernel asks of it.
func hang(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("silent", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		leave(t, fmt.Sprintf("a file system that does not answer, which takes root and FUSE: %v", err))
	}
	end := sync.OnceFunc(func() {
		_ = unix.Close(fd) // what waits gets an error
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	time.AfterFunc(2*time.Minute, end)
	t.Cleanup(end)
}

// slowDisk is a server with a repository on a disk of its own and one beside it.
type slowDisk struct {
	*server
	t          *testing.T
	volume     string // of the repository "slow"
	fast, slow *storeClient
}

func newSlowDisk(t *testing.T) *slowDisk {
	s := newServer(t)
	if err := os.Mkdir(s.data, 0o755); err != nil {
		t.Fatal(err)
	}
	v := newVolume(t, filepath.Join(s.data, "slow"))
	if v.device == "" {
		leave(t, "one disk does not answer, which takes root and a loop device")
	}
	if err := os.Remove(filepath.Join(v.dir, "lost+found")); err != nil {
		t.Fatal(err)
	}
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(t, tokenFile, token+"\n", 0o600)
	s.args = []string{"serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json", "--drain", "2s"}
	s.start()
	d := &slowDisk{server: s, t: t, volume: v.dir, fast: newStoreClient(s, "fast", 4), slow: newStoreClient(s, "slow", 4)}
	for _, c := range []*storeClient{d.fast, d.slow} {
		if err := c.create(); err != nil {
			t.Fatal(err)
		}
		if err := c.store("data/before", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// page gets one of the server's own pages.
func (d *slowDisk) page(target string) string {
	d.t.Helper()
	request, err := http.NewRequest("GET", d.scheme+"://"+d.addr+target, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := (&http.Client{Timeout: 20 * time.Second}).Do(request)
	if err != nil {
		d.t.Fatalf("%s: %v", target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		d.t.Errorf("%s: got %d %s, %v", target, response.StatusCode, text, err)
	}
	return string(text)
}

// othersGoOn demands that what does not concern the slow disk is served.
func (d *slowDisk) othersGoOn() {
	d.t.Helper()
	slowest := time.Duration(0)
	timed := func(what string, do func() error) {
		d.t.Helper()
		began := time.Now()
		if err := do(); err != nil {
			d.t.Errorf("%s: %v", what, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	for i := range 20 {
		name := fmt.Sprintf("data/beside-%d", i)
		timed("store", func() error { return d.fast.store(name, []byte("x")) })
		timed("store a large item", func() error { return d.fast.store(name+"-large", make([]byte, 1<<20)) })
		timed("load", func() error { _, err := d.fast.load(name); return err })
		timed("list", func() error { _, err := d.fast.do("GET", "/data/", nil); return err })
		timed("lock", func() error { return d.fast.store("locks/a", []byte("x")) })
		timed("unlock", func() error { return d.fast.delete("locks/a") })
		timed("delete", func() error { return d.fast.delete(name) })
		timed("delete a large item", func() error { return d.fast.delete(name + "-large") })
	}
	if slowest > 10*time.Second {
		d.t.Errorf("a request of another repository took %v", slowest)
	}
	other := newStoreClient(d.server, fmt.Sprintf("other%d", time.Now().UnixNano()), 1)
	timed("create another repository", other.create)
	if text := d.page("/metrics"); !strings.Contains(text, `packhouse_repository_items{repository="fast"}`) {
		d.t.Error("metrics say nothing of the other repository")
	}
	if text := d.page("/-/repositories"); !strings.Contains(text, `"fast"`) || !strings.Contains(text, `"slow"`) {
		d.t.Errorf("the list of repositories: %s", text)
	}
	if text := d.page("/fast/-/jobs"); text == "" {
		d.t.Error("no list of jobs")
	}
}

func (d *slowDisk) silentRepos() int {
	d.t.Helper()
	var h struct {
		Status      string
		SilentRepos int `json:"silent_repos"`
	}
	if err := json.Unmarshal([]byte(d.page("/health")), &h); err != nil {
		d.t.Fatal(err)
	}
	if h.SilentRepos > 0 && h.Status != "degraded" {
		d.t.Errorf("health: got %+v", h)
	}
	return h.SilentRepos
}

// TestDiskTakesNoWrites: the disk of one repository takes no writes for a while. Its requests wait, those of others do not; then all goes on.
// While it takes none, the server can be stopped.
func TestDiskTakesNoWrites(t *testing.T) {
	d := newSlowDisk(t)
	d.expectErrors = "disk"
	thaw := freeze(t, d.volume)
	const n = 20
	stored := make(chan error, n)
	for i := range n {
		body := make([]byte, 1+i%2<<20)
		go func() { stored <- d.slow.store(fmt.Sprintf("data/waits-%d", i), body) }()
	}
	time.Sleep(time.Second)
	d.othersGoOn()
	for deadline := time.Now().Add(45 * time.Second); d.silentRepos() == 0; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("health says nothing of a disk that takes no writes")
		}
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.awaitLog("reloaded the configuration")
	thaw()
	for range n {
		if err := <-stored; err != nil {
			t.Errorf("a store that waited: %v", err)
		}
	}
	if n := d.silentRepos(); n != 0 {
		t.Errorf("health: %d disks do not answer, want 0", n)
	}

	thaw = freeze(t, d.volume)
	go func() { stored <- d.slow.store("data/last", []byte("x")) }()
	time.Sleep(time.Second)
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	d.awaitLog("not closed, as their disk does not answer: repositories slow")
	thaw()
	<-d.done
	d.cmd = nil
	<-stored
	d.start()
	for _, c := range []*storeClient{d.fast, d.slow} {
		if _, err := c.load("data/before"); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.slow.load(fmt.Sprintf("data/waits-%d", n-1)); err != nil {
		t.Error(err)
	}
}

// awaitLog waits until the server has said this.
func (d *slowDisk) awaitLog(message string) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if text, err := os.ReadFile(d.logPath); err == nil && strings.Contains(string(text), message) {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the log does not say %q", message)
		}
	}
}

// TestDiskDoesNotAnswer: a file system at the place of a repository answers nothing. Others are served, also after a start, and the
// server stops.
func TestDiskDoesNotAnswer(t *testing.T) {
	d := newSlowDisk(t)
	d.expectErrors = "disk|maintenance"
	hang(t, filepath.Join(d.data, "hangs"))
	hang(t, d.volume) // over one that is in use
	asked := make(chan struct{}, 2)
	for _, name := range []string{"slow", "hangs"} {
		c := newStoreClient(d.server, name, 1)
		c.http.Timeout = 90 * time.Second
		go func() {
			_, _ = c.load("data/before")
			asked <- struct{}{}
		}()
	}
	time.Sleep(time.Second)
	d.othersGoOn()
	for deadline := time.Now().Add(30 * time.Second); d.silentRepos() == 0; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("health says nothing of a disk that does not answer")
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Second) {
		_, err := d.slow.load("data/before")
		if status := (*statusError)(nil); errors.As(err, &status) && status.status == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("requests are not refused")
		}
	}
	d.crashed = true // it may say that it could not close all
	d.stop()
	d.start()
	d.othersGoOn()
	d.crashed = true
}
