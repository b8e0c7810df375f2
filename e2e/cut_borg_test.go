//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/api/vger/vykartest"
)

// TestCutBorg cuts the connections of borg in `compact`, or kills it or the server, at each request that changes
// something. borg deletes its index before the first change and makes it anew from the list of packs: its next commands must
// find everything.
func TestCutBorg(t *testing.T) {
	t.Parallel()
	program := need(t, "borg")
	s := startServer(t)
	tr := newTree(t, 21, 40, 3<<20)
	first := newBorgOf(t, program, s.url("laptop"), "BORG_PACK_MAX_SIZE=1000000")
	first.run("repo-create", "--encryption", "aes256-ocb")
	first.run("create", "old", tr.dir)
	for i := 0; i < len(tr.files); i += 3 {
		if err := os.Remove(filepath.Join(tr.dir, tr.files[i])); err != nil {
			t.Fatal(err)
		}
	}
	first.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	first.run("delete", "-a", "old")
	s.stop()
	home := valueOf(first.env, "BORG_BASE_DIR")

	// begin is the client on a copy of all, behind a proxy.
	begin := func(t *testing.T) (*borg, *server, *vykartest.Cutter) {
		s := serverOn(t, s.data)
		cutter, addr := front(t, s)
		b := newBorgOf(t, program, "http://packhouse:"+token+"@"+addr+"/laptop", "BORG_PACK_MAX_SIZE=1000000")
		run(t, nil, "cp", "-a", home+"/.", valueOf(b.env, "BORG_BASE_DIR"))
		return b, s, cutter
	}
	m := new(mutations)
	t.Run("whole", func(t *testing.T) {
		b, _, cutter := begin(t)
		cutter.Choose = m.choose
		b.run("compact", "--threshold", "0")
		cutter.Stop()
		b.goOn(tr)
	})
	t.Logf("it sends %q", m.seen)
	ways := []struct {
		name                  string
		cut                   vykartest.Cut
		killsBorg, killServer bool
	}{
		{"killed when answered", vykartest.KilledAfter, true, false},
		{"killed before", vykartest.KilledBefore, true, false},
		{"answer lost", vykartest.Late, false, false},
		{"server killed", vykartest.Late, false, true},
	}
	t.Run("cut", func(t *testing.T) {
		for n := range m.seen {
			way := ways[n%len(ways)]
			t.Run(fmt.Sprintf("%d %s", n+1, way.name), func(t *testing.T) {
				t.Parallel()
				b, s, cutter := begin(t)
				cmd := exec.Command(b.program, "compact", "--threshold", "0")
				cmd.Env = append(os.Environ(), b.env...)
				m := &mutations{n: n + 1, cut: way.cut, once: true}
				kill := func() { _ = cmd.Process.Kill() }
				switch {
				case way.killServer:
					cutter.Next = &dying{s: s, next: cutter.Next, choose: m, late: n%8 < 4}
				case way.killsBorg:
					deadly(cutter, m, kill)
				default:
					cutter.Choose = m.choose
				}
				out, err := cmd.CombinedOutput()
				if m.was() == "" {
					t.Errorf("nothing was cut: %v\n%s", err, lastLines(string(out), 20))
				}
				if err != nil && !way.killsBorg {
					t.Errorf("borg did not survive it: %v\n%s", err, lastLines(string(out), 20))
				}
				cutter.Stop()
				b.goOn(tr)
			})
		}
	})
}

func valueOf(env []string, name string) string {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// goOn is what borg's next commands are.
func (b *borg) goOn(tr *tree) {
	b.t.Helper()
	b.run("check")
	look(b.t, filepath.Join(b.extract(b.archives()[0]), "tree")).same(b.t, look(b.t, tr.dir))
	b.run("compact", "--threshold", "0")
	b.run("check", "--verify-data")
}
