//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/api/vger/vykartest"
)

// The tests of this file interrupt compactions over real connections, at each request that changes something. What is
// drawn at random, with a clock of its own, is in package vykartest.

// serverOn starts a server on a copy of a data directory.
func serverOn(t testing.TB, data string, args ...string) *server {
	t.Helper()
	s := newServer(t)
	if data != "" {
		run(t, nil, "cp", "-a", data, s.data)
	}
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(t, tokenFile, token+"\n", 0o600)
	s.args = append([]string{"serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile,
		"--log-format", "json"}, args...)
	s.start()
	return s
}

// front is a proxy in front of a server, whose connections to clients can be cut.
func front(t testing.TB, s *server) (cutter *vykartest.Cutter, addr string) {
	t.Helper()
	cutter = &vykartest.Cutter{Next: &http.Transport{DisableCompression: true}, Target: &url.URL{Scheme: s.scheme, Host: s.addr}}
	proxy := httptest.NewServer(cutter)
	t.Cleanup(proxy.Close)
	return cutter, proxy.Listener.Addr().String()
}

// vault is a repository of V'Ger with what its snapshots hold.
type vault struct {
	t     testing.TB
	s     *server
	name  string
	cache vykartest.Cache
	pid   int
	next  http.RoundTripper
	o     vykartest.Options
	want  map[string][][]byte
	token string // of the client

	oneList bool
}

func newVault(t testing.TB, s *server, name string) *vault {
	v := &vault{t: t, s: s, name: name, token: token, oneList: true, want: make(map[string][][]byte), next: &http.Transport{DisableCompression: true}}
	v.o.PackSize, v.o.Batch = 8<<10, 24<<10
	return v
}

// client starts the next process.
func (v *vault) client(transport http.RoundTripper) *vykartest.Client {
	v.pid++
	o := v.o
	o.Base, o.Transport, o.Cache = "http://"+v.s.addr+"/"+v.name, transport, &v.cache
	o.Header = http.Header{"Authorization": {"Bearer " + v.token}}
	o.Host, o.BootID, o.PID, o.OneList = "host", "boot", v.pid, v.oneList
	o.Random = rand.New(rand.NewPCG(uint64(v.pid), 1))
	return vykartest.New(o)
}

// fill makes a repository of which each pack is half dead: n chunks of about size bytes live.
func (v *vault) fill(n, size int) {
	v.t.Helper()
	old, live := make([][]byte, 2*n), [][]byte{}
	for i := range old {
		old[i] = noise(uint64(len(v.name)+i), int64(size*3/4+i*size/(4*n)))
		if i%2 == 0 {
			live = append(live, old[i])
		}
	}
	err := errors.Join(v.client(v.next).Init(), v.client(v.next).Backup("old", old...), v.client(v.next).Backup("live", live...))
	if err == nil {
		var warnings []error
		warnings, err = v.client(v.next).Delete("old")
		err = errors.Join(append(warnings, err)...)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	v.want["live"] = live
}

// whole demands that everything is there, by what a client can do.
func (v *vault) whole(depth vykartest.Depth) {
	v.t.Helper()
	if err := v.client(v.next).Check(depth); err != nil {
		v.t.Errorf("check: %v", err)
	}
	names, err := v.client(v.next).List()
	if err != nil || len(names) != len(v.want) {
		v.t.Errorf("list: %q, %v, want %d snapshots", names, err, len(v.want))
	}
	for name, want := range v.want {
		got, err := v.client(v.next).Restore(name)
		if err != nil || len(got) != len(want) {
			v.t.Fatalf("restore %s: %d chunks, %v, want %d", name, len(got), err, len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				v.t.Fatalf("restore %s: chunk %d is another", name, i)
			}
		}
	}
}

// goOn is what the client does by itself after an interruption.
func (v *vault) goOn() {
	v.t.Helper()
	v.whole(vykartest.Existence)
	if _, err := v.client(v.next).Compact(); err != nil {
		v.t.Errorf("compact afterwards: %v", err)
	}
	v.whole(vykartest.Everything)
	more := append([][]byte{noise(99, 3000)}, v.want["live"]...)
	if err := v.client(v.next).Backup("next", more...); err != nil {
		v.t.Errorf("backup afterwards: %v", err)
	}
	v.want["next"] = more
	done, err := v.client(v.next).Compact()
	if err != nil || done.Repacked > 0 {
		v.t.Errorf("the second compact: %+v, %v, want nothing to repack", done, err)
	}
	v.whole(vykartest.Everything)
}

// template is a data directory with one vault.
func template(t *testing.T, fill func(v *vault)) (data string, v *vault) {
	t.Helper()
	s := startServer(t)
	v = newVault(t, s, "vault")
	fill(v)
	s.stop()
	return s.data, v
}

// copyOf is the vault on a server of its own.
func (v *vault) copyOf(t testing.TB, s *server) *vault {
	c := newVault(t, s, v.name)
	c.o, c.pid = v.o, v.pid
	for name, want := range v.want {
		c.want[name] = want
	}
	return c
}

// mutations counts the changing requests of a client, and cuts the n-th in one way.
type mutations struct {
	n    int
	cut  vykartest.Cut
	once bool // not all its tries, but one

	mu   sync.Mutex
	hit  string // the n-th; empty: it has not come yet
	seen []string
}

// was tells which request was cut.
func (m *mutations) was() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hit
}

func (m *mutations) choose(_ int, r *http.Request) vykartest.Cut {
	m.mu.Lock()
	defer m.mu.Unlock()
	target := r.Method + " " + r.URL.RequestURI()
	switch {
	case m.hit != "" && m.hit == target && !m.once:
		return m.cut
	case m.hit != "" || !vykartest.Mutates(r):
		return vykartest.Whole
	}
	m.seen = append(m.seen, target)
	if len(m.seen) != m.n {
		return vykartest.Whole
	}
	m.hit = target
	return m.cut
}

// TestCutCompaction cuts a compaction of several batches at each request that changes something, in each way, in all its tries.
func TestCutCompaction(t *testing.T) {
	t.Parallel()
	data, v := template(t, func(v *vault) { v.fill(20, 2000) })
	m := new(mutations)
	t.Run("whole", func(t *testing.T) {
		c := v.copyOf(t, serverOn(t, data))
		done, err := c.client(&vykartest.Cutter{Next: c.next, Choose: m.choose}).Compact()
		if err != nil || !done.Saved || done.Batches < 2 {
			t.Fatalf("compact: %+v, %v", done, err)
		}
		c.goOn()
	})
	t.Run("cut", func(t *testing.T) {
		for n := range m.seen {
			for cut := vykartest.Before; cut <= vykartest.KilledAfter; cut++ {
				t.Run(fmt.Sprintf("%d %v", n+1, cut), func(t *testing.T) {
					t.Parallel()
					c := v.copyOf(t, serverOn(t, data))
					m := &mutations{n: n + 1, cut: cut}
					done, err := c.client(&vykartest.Cutter{Next: c.next, Choose: m.choose}).Compact()
					if m.was() == "" {
						t.Errorf("nothing was cut; compact: %+v, %v", done, err)
					}
					c.goOn()
				})
			}
		}
	})
}

// dying sends requests on until one of them is the last thing that the server does.
type dying struct {
	s      *server
	next   http.RoundTripper
	choose *mutations
	late   bool // it is killed when it has answered, else while it works
	client bool // the client dies with it
}

func (d *dying) RoundTrip(r *http.Request) (*http.Response, error) {
	if over := d.choose.was() != ""; over && d.client {
		return nil, vykartest.ErrKilled
	} else if over || d.choose.choose(0, r) == vykartest.Whole {
		return d.next.RoundTrip(r)
	}
	killed := make(chan struct{})
	if !d.late {
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			d.s.kill()
		}()
	}
	if response, err := d.next.RoundTrip(r); err == nil {
		response.Body.Close()
	}
	if d.late {
		d.s.kill()
	} else {
		<-killed
	}
	d.s.start()
	if d.client {
		return nil, vykartest.ErrKilled
	}
	return nil, vykartest.Reset(r, vykartest.Late)
}

// TestKilledInCompaction kills the server at each request of a compaction that changes something: while it works on
// it, or when it has answered; sometimes the client with it.
func TestKilledInCompaction(t *testing.T) {
	t.Parallel()
	data, v := template(t, func(v *vault) { v.fill(20, 2000) })
	m := new(mutations)
	c := v.copyOf(t, serverOn(t, data))
	if _, err := c.client(&vykartest.Cutter{Next: c.next, Choose: m.choose}).Compact(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(m.seen); n++ {
		for _, late := range []bool{false, true} {
			for _, client := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d, answered %v, client too %v", n, late, client), func(t *testing.T) {
					t.Parallel()
					c := v.copyOf(t, serverOn(t, data))
					d := &dying{s: c.s, next: c.next, choose: &mutations{n: n, cut: vykartest.Late}, late: late, client: client}
					_, err := c.client(d).Compact()
					if d.choose.was() == "" {
						t.Fatalf("no request %d: %v", n, err)
					}
					if err != nil != client {
						t.Errorf("compact: %v; the client was killed: %v", err, client)
					}
					c.goOn()
				})
			}
		}
	}
}

// TestQuotaBelowUsage lowers the limit below what is stored, by the administrator's command, before a compaction.
func TestQuotaBelowUsage(t *testing.T) {
	t.Parallel()
	data, v := template(t, func(v *vault) { v.fill(20, 2000) })
	for _, quota := range []string{"1", "1K", "30K", "60K"} {
		t.Run(quota, func(t *testing.T) {
			t.Parallel()
			c := v.copyOf(t, serverOn(t, data))
			run(t, nil, c.s.program, "repo", "quota", "-d", c.s.data, c.name, quota)
			done, err := c.client(c.next).Compact()
			if err != nil || !done.Saved {
				t.Errorf("compact: %+v, %v", done, err)
			}
			c.whole(vykartest.Everything)
			if err := c.client(c.next).Backup("too much", noise(1, 100<<10)); err == nil {
				t.Errorf("a backup beyond the quota of %s was taken", quota)
			}
			run(t, nil, c.s.program, "repo", "quota", "-d", c.s.data, c.name, "none")
			c.goOn()
		})
	}
}

// TestDiskNearlyFull compacts 36 MiB on a disk with little free, at the default reserve of 64 MiB.
func TestDiskNearlyFull(t *testing.T) {
	const mib = 1 << 20
	mount := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, fmt.Sprintf("size=%d", 512*mib)); err != nil {
		leave(t, fmt.Sprintf("a small file system cannot be mounted here (are we root?): %v", err))
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	s := newServer(t)
	s.data = filepath.Join(mount, "data")
	tokenFile := filepath.Join(s.dir, "token")
	writeFile(t, tokenFile, token+"\n", 0o600)
	s.args = []string{"serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json"}
	s.start()
	filler := filepath.Join(mount, "filler")
	for _, free := range []int64{12, 30, 45, 52, 60, 66, 75, 90, 120} {
		t.Run(fmt.Sprintf("%d MiB", free), func(t *testing.T) {
			v := newVault(t, s, fmt.Sprintf("vault%d", free))
			v.o.PackSize, v.o.Batch = 3*mib, 2<<30
			v.fill(44, mib) // 44 chunks of 0.75 to 1 MiB: 36 to 40 MiB of outputs
			fillUp(t, mount, filler, free*mib)
			done, err := v.client(v.next).Compact()
			var status *vykartest.StatusError
			switch {
			case err == nil && done.Saved:
			case errors.As(err, &status) && status.Status == http.StatusRequestEntityTooLarge && done.Batches == 0 && free < 60:
			default:
				t.Errorf("compact: %+v, %v", done, err)
			}
			v.whole(vykartest.Existence)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			v.goOn()
			if err := v.client(v.next).DeleteRepository(); err != nil {
				t.Errorf("delete the repository: %v", err)
			}
			for deadline := time.Now().Add(time.Minute); freeOn(t, mount) < 480*mib; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d MiB are free a minute after the repository was deleted", freeOn(t, mount)/mib)
				}
			}
		})
	}
}

func freeOn(t testing.TB, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// fillUp leaves so many bytes free.
func fillUp(t testing.TB, dir, filler string, free int64) {
	t.Helper()
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, freeOn(t, dir)-free); err != nil {
		t.Fatal(err)
	}
}

// normal is a request without what differs from run to run, and without its repository.
func normal(r *http.Request) string {
	_, target, _ := strings.Cut(strings.TrimPrefix(r.URL.RequestURI(), "/"), "/")
	if query := r.URL.RawQuery; target == "" {
		return r.Method + " ?" + query
	}
	if dir, _, below := strings.Cut(target, "/"); below {
		target = dir + "/"
		if r.URL.RawQuery == "list" {
			target += "?list"
		}
	}
	return r.Method + " " + target
}
