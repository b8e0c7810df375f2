//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"packhouse/api/vger/vykartest"
)

// cutVykar is a real client whose commands are interrupted.
type cutVykar struct {
	*vykar
	home string
	src  *tree
}

func newCutVykar(t testing.TB, program string, src *tree, addr string) *cutVykar {
	t.Helper()
	v := newVykar(t, program, "", src.dir)
	config := strings.TrimPrefix(v.env[0], "VYKAR_CONFIG=")
	home := filepath.Dir(config)
	writeFile(t, config, strings.NewReplacer("ADDR", addr, "TOKEN", token, "HOME", home, "SRC", src.dir).Replace(`repositories:
  - label: vault
    url: http://ADDR/vault
    access_token: TOKEN
    allow_insecure_http: true
    min_pack_size: 65536
    max_pack_size: 131072
    retry: {max_retries: 3, retry_delay_ms: 5, retry_max_delay_ms: 10}
cache_dir: HOME/cache
encryption: {mode: none}
retention: {keep_last: 1}
sources:
  - label: tree
    path: SRC
`), 0o600)
	return &cutVykar{v, home, src}
}

func (v *cutVykar) command(args ...string) *exec.Cmd {
	cmd := exec.Command(v.program, args...)
	cmd.Env = append(os.Environ(), v.env...)
	return cmd
}

// whole demands that the latest snapshot is that of the tree, byte for byte.
func (v *cutVykar) whole(check ...string) {
	v.t.Helper()
	if out := v.run(append([]string{"check"}, check...)...); !strings.Contains(out, " 0 errors") {
		v.t.Errorf("check: %s", lastLines(out, 20))
	}
	dir := filepath.Join(v.t.TempDir(), "restored")
	v.run("restore", "latest", dir)
	look(v.t, dir).same(v.t, look(v.t, v.src.dir))
}

// filled is a data directory whose repository has packs of which a real client would compact several.
func filled(t *testing.T, program string) (data, home string, src *tree) {
	t.Helper()
	s := startServer(t)
	src = newTree(t, 11, 60, 4<<20)
	v := newCutVykar(t, program, src, s.addr)
	v.run("init")
	v.run("backup")
	for i := 0; i < len(src.files); i += 3 {
		if err := os.Remove(filepath.Join(src.dir, src.files[i])); err != nil {
			t.Fatal(err)
		}
	}
	v.run("backup")
	v.run("prune")
	s.stop()
	return s.data, v.home, src
}

// TestCutVykar cuts the connections of a real vykar in `compact`, or kills it or the server, at each request that changes
// something. Its next commands must find everything.
func TestCutVykar(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	data, home, src := filled(t, program)
	// begin is the client on a copy of all, behind a proxy.
	begin := func(t *testing.T) (*cutVykar, *server, *vykartest.Cutter) {
		s := serverOn(t, data)
		cutter, addr := front(t, s)
		v := newCutVykar(t, program, src, addr)
		run(t, nil, "cp", "-a", filepath.Join(home, "cache"), filepath.Join(v.home, "cache"))
		return v, s, cutter
	}
	m := new(mutations)
	t.Run("whole", func(t *testing.T) {
		v, _, cutter := begin(t)
		cutter.Choose = m.choose
		if out := v.run("compact"); !strings.Contains(out, "packs repacked") {
			t.Errorf("compact repacked nothing: %s", out)
		}
		cutter.Stop()
		v.whole("--verify-data")
	})
	t.Logf("it sends %q", m.seen)
	t.Run("cut", func(t *testing.T) {
		for n := range m.seen {
			for _, cut := range []vykartest.Cut{vykartest.Before, vykartest.Midway, vykartest.Late, vykartest.Short, vykartest.Swallowed, vykartest.KilledBefore, vykartest.KilledAfter} {
				t.Run(fmt.Sprintf("%d %v", n+1, cut), func(t *testing.T) {
					t.Parallel()
					v, _, cutter := begin(t)
					m := &mutations{n: n + 1, cut: cut}
					cmd := v.command("compact")
					if cut == vykartest.KilledBefore || cut == vykartest.KilledAfter {
						deadly(cutter, m, func() { _ = cmd.Process.Kill() })
					} else {
						cutter.Choose = m.choose
					}
					out, err := cmd.CombinedOutput()
					if m.was() == "" {
						t.Errorf("nothing was cut: %v\n%s", err, out)
					}
					cutter.Stop()
					v.goOn()
				})
			}
			t.Run(fmt.Sprintf("%d server killed", n+1), func(t *testing.T) {
				t.Parallel()
				v, s, cutter := begin(t)
				cutter.Next = &dying{s: s, next: cutter.Next, choose: &mutations{n: n + 1, cut: vykartest.Late}, late: n%2 == 0}
				if out, err := v.command("compact").CombinedOutput(); err != nil {
					t.Errorf("compact did not survive a restart: %v\n%s", err, lastLines(string(out), 20))
				}
				v.goOn()
			})
		}
	})
}

// deadly kills a client, before the request that m chooses is sent on or when it was answered.
func deadly(cutter *vykartest.Cutter, m *mutations, kill func()) {
	next := cutter.Next
	m.once = true
	cutter.Next = roundTripper(func(r *http.Request) (*http.Response, error) {
		cut := m.choose(0, r)
		if cut == vykartest.KilledBefore {
			kill()
			return nil, vykartest.ErrKilled
		}
		response, err := next.RoundTrip(r)
		if cut == vykartest.KilledAfter {
			kill()
		}
		return response, err
	})
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// goOn is what the client's next commands are.
func (v *cutVykar) goOn() {
	v.t.Helper()
	v.whole()
	v.run("list")
	v.run("compact")
	v.whole("--verify-data")
	if out := v.run("compact"); strings.Contains(out, "packs repacked") && !strings.Contains(out, " 0 packs repacked") {
		v.t.Errorf("the second compact still found work: %s", out)
	}
	v.run("backup")
	v.whole("--verify-data")
}

// TestVykarSendsWhatTheDriverSends compares the requests of both, command by command: those in a row that are alike
// count once, as the real client sends them in parallel.
func TestVykarSendsWhatTheDriverSends(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	src := newTree(t, 12, 40, 2<<20)
	s := startServer(t)
	record := func(sent *[]string) func(int, *http.Request) vykartest.Cut {
		var mu sync.Mutex
		return func(_ int, r *http.Request) vykartest.Cut {
			mu.Lock()
			defer mu.Unlock()
			line := normal(r)
			// Packs go up behind what follows.
			if line != "PUT packs/" && (len(*sent) == 0 || (*sent)[len(*sent)-1] != line) {
				*sent = append(*sent, line)
			}
			return vykartest.Whole
		}
	}
	cutter, addr := front(t, s)
	real := newCutVykar(t, program, src, addr)
	driver := newVault(t, s, "driver")
	driver.o.PackSize, driver.oneList = 64<<10, false
	chunks := func() (all [][]byte) {
		for i := range src.files {
			if body, err := os.ReadFile(filepath.Join(src.dir, src.files[i])); err == nil {
				all = append(all, body)
			}
		}
		return all
	}
	for _, c := range []struct {
		name string
		args []string
		run  func(c *vykartest.Client) error
	}{
		{"init", []string{"init"}, func(c *vykartest.Client) error { return c.Init() }},
		{"backup", []string{"backup"}, func(c *vykartest.Client) error { return c.Backup("first", chunks()...) }},
		{"backup again", []string{"backup"}, func(c *vykartest.Client) error {
			return c.Backup("second", chunks()...)
		}},
		{"list", []string{"list"}, func(c *vykartest.Client) error { _, err := c.List(); return err }},
		{"check", []string{"check"}, func(c *vykartest.Client) error { return c.Check(vykartest.Existence) }},
		{"prune", []string{"prune"}, func(c *vykartest.Client) error { _, err := c.Delete("first"); return err }},
		{"compact", []string{"compact"}, func(c *vykartest.Client) error { _, err := c.Compact(); return err }},
	} {
		if c.name == "backup again" {
			for i := 0; i < len(src.files); i += 3 {
				if err := os.Remove(filepath.Join(src.dir, src.files[i])); err != nil {
					t.Fatal(err)
				}
			}
		}
		var want, got []string
		cutter.Choose = record(&want)
		real.run(c.args...)
		if err := c.run(driver.client(&vykartest.Cutter{Next: driver.next, Choose: record(&got)})); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the driver sends\n%q, vykar\n%q", c.name, got, want)
		}
	}
}
