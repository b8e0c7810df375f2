package vykartest_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"packhouse/api/vger/vykartest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // many short-lived servers, and little that lives on
	os.Exit(m.Run())
}

// host is a machine with a client: its processes come one after the other.
type host struct {
	m     *machine
	name  string
	link  *link
	cache vykartest.Cache
	o     vykartest.Options // of the next process
	pid   int
	seed  uint64
}

func newHost(m *machine, seed uint64, name, address string) *host {
	h := &host{m: m, name: name, seed: seed, link: &link{m: m, address: address}}
	h.o = vykartest.Options{
		Base: base, Transport: h.link, Cache: &h.cache, Host: name, BootID: "boot of " + name, Now: m.now.Now,
		Sleep: m.now.advance, OneList: true, Header: http.Header{"Authorization": {"Bearer " + secret("alpha")}},
	}
	return h
}

// process starts a client; the one before has ended.
func (h *host) process() *vykartest.Client {
	h.pid++
	h.link.reborn()
	o := h.o
	o.PID = h.pid
	o.Random = random(h.seed, fmt.Sprint(h.name, h.pid))
	return vykartest.New(o)
}

// chunks makes n of them with sizes up to size.
func chunks(seed uint64, purpose string, n, size int) [][]byte {
	r := random(seed, purpose)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], r.Uint64())
	content := rand.NewChaCha8(key)
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, size/2+r.IntN(size/2+1)+1)
		content.Read(all[i])
	}
	return all
}

// startMachine is a server in memory that ends with the test.
func startMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, t.TempDir())
	m.start()
	t.Cleanup(m.stop)
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCycle is a repository's life without any fault, by clients of both formats.
func TestCycle(t *testing.T) {
	for _, format := range []int{1, 2} {
		t.Run(fmt.Sprint("format ", format), func(t *testing.T) {
			m := startMachine(t)
			h := newHost(m, 1, "alpha", "10.0.0.1")
			h.o.Format, h.o.PackSize, h.o.Batch = format, 1500, 2000
			must(t, h.process().Init())
			first := chunks(1, "first", 20, 500)
			second := chunks(1, "second", 10, 500)
			for i := 0; i < len(first); i += 2 {
				second = append(second, first[i])
			}
			must(t, h.process().Backup("first", first...))
			m.now.advance(24 * time.Hour)
			must(t, h.process().Backup("second", second...))
			for name, want := range map[string][][]byte{"first": first, "second": second} {
				got, err := h.process().Restore(name)
				must(t, err)
				if !same(got, want) {
					t.Errorf("%s: restored other bytes", name)
				}
			}
			warnings, err := h.process().Delete("first")
			if err = errors.Join(append(warnings, err)...); err != nil {
				t.Fatal(err)
			}
			before := m.repository().Usage().Bytes
			done, err := h.process().Compact()
			must(t, err)
			if done.Repacked == 0 || done.Deleted == 0 && done.Orphans > 0 || format == 2 && done.Batches < 2 || format == 1 && done.Batches != 1 || !done.Saved {
				t.Errorf("compact: %+v", done)
			}
			if after := m.repository().Usage().Bytes; after >= before {
				t.Errorf("compact: %d bytes, %d before", after, before)
			}
			for depth := vykartest.Existence; depth <= vykartest.Everything; depth++ {
				must(t, h.process().Check(depth))
			}
			names, err := h.process().List()
			if err != nil || len(names) != 1 || names[0] != "second" {
				t.Errorf("list: %q, %v", names, err)
			}
			got, err := h.process().Restore("second")
			must(t, err)
			if !same(got, second) {
				t.Error("restored other bytes")
			}
			must(t, h.process().DeleteRepository())
		})
	}
}

// TestSequences: what each command sends, against the table of the protocol (contract, 11.3 and 11.4). Names and hashes
// are left out.
func TestSequences(t *testing.T) {
	const (
		acquire   = "GET locks/?list, PUT locks/, GET locks/?list, "
		release   = "DELETE locks/, "
		register  = "PUT sessions/, " + acquire + release
		leave     = "DELETE sessions/, "
		open      = "GET config, GET index.gen, GET snapshots/?list, "
		load      = "GET index, PUT index.gen, "
		save      = "HEAD locks/, PUT index, PUT index.gen, "
		sessions  = "GET sessions/?list, GET sessions/?list, "
		tree      = "GET packs/, "
		ttl       = "POST locks/repo-lock, "
		openTTL   = "GET config, GET manifest, GET index, "
		ttlFree   = "DELETE locks/repo-lock, "
		twoPacks  = "PUT packs/, PUT packs/, "
		manifests = "PUT manifest, PUT index, "
	)
	for _, c := range []struct {
		format int
		want   map[string]string
	}{
		{2, map[string]string{
			"init": "HEAD config, POST ?init, PUT config, PUT index, PUT index.gen, ",
			"backup": register + open + "GET snapshots/, " + load + "GET sessions/?list, GET sessions/, " + acquire + "HEAD sessions/, " + twoPacks + "PUT sessions/, " +
				"GET snapshots/?list, GET index, HEAD packs/, HEAD packs/, " + save + "HEAD locks/, PUT snapshots/, " + leave + release + leave,
			"list":    open + "GET snapshots/, GET snapshots/, GET snapshots/, ",
			"restore": register + open + "GET snapshots/, " + load + tree + "GET packs/, GET packs/, " + leave,
			"check":   register + open + "GET index, POST ?verify-packs, GET snapshots/, " + tree + "GET snapshots/, " + tree + leave,
			"delete":  open + load + acquire + sessions + "GET snapshots/, HEAD locks/, DELETE snapshots/, " + tree + save + release,
			"compact": open + load + acquire + sessions + "GET packs/?list, HEAD packs/, HEAD packs/, HEAD packs/, HEAD packs/, POST ?repack, " + save + release,
			"nothing": open + load + acquire + sessions + "GET packs/?list, HEAD packs/, HEAD packs/, " + release,
		}},
		{1, map[string]string{
			"init":    "HEAD config, POST ?init, PUT config, PUT manifest, PUT index, ",
			"backup":  openTTL + ttl + twoPacks + "PUT snapshots/, PUT index, PUT manifest, " + ttlFree,
			"compact": openTTL + ttl + "GET packs/?list, HEAD packs/, HEAD packs/, HEAD packs/, HEAD packs/, POST ?repack, " + manifests + ttlFree,
			"delete":  openTTL + ttl + "GET snapshots/, " + tree + manifests + "DELETE snapshots/, " + ttlFree,
		}},
	} {
		t.Run(fmt.Sprint("format ", c.format), func(t *testing.T) {
			m := startMachine(t)
			h := newHost(m, 2, "alpha", "10.0.0.1")
			h.o.Format = c.format
			var sent strings.Builder
			h.link.before = func(_ int, r *http.Request) {
				target := strings.TrimPrefix(strings.TrimPrefix(r.URL.RequestURI(), "/"+repositoryName), "/")
				if dir, name, ok := strings.Cut(target, "/"); ok && name != "?list" && name != "repo-lock" {
					target = dir + "/"
				}
				fmt.Fprintf(&sent, "%s %s, ", r.Method, target)
			}
			run := func(name string, command func(p *vykartest.Client) error) {
				t.Helper()
				sent.Reset()
				must(t, command(h.process()))
				if want, ok := c.want[name]; ok && sent.String() != want {
					t.Errorf("%s sent\n%s, want\n%s", name, sent.String(), want)
				}
			}
			first := chunks(2, "first", 2, 100)
			second := append(chunks(2, "second", 1, 100), first[0])
			run("init", func(p *vykartest.Client) error { return p.Init() })
			run("", func(p *vykartest.Client) error { return p.Backup("first", first...) })
			run("backup", func(p *vykartest.Client) error { return p.Backup("second", second...) })
			run("list", func(p *vykartest.Client) error { _, err := p.List(); return err })
			run("restore", func(p *vykartest.Client) error { _, err := p.Restore("second"); return err })
			run("check", func(p *vykartest.Client) error { return p.Check(vykartest.Existence) })
			run("delete", func(p *vykartest.Client) error { _, err := p.Delete("first"); return err })
			run("compact", func(p *vykartest.Client) error { _, err := p.Compact(); return err })
		})
	}
}
