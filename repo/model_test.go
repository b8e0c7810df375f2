package repo_test

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"packhouse/repo"
	"packhouse/repo/digest"
)

// model is what a repository should be, in the simplest terms.
type model struct {
	items map[string]string
	dirs  map[string]bool
	limit int64
}

func parents(key string) []string {
	var all []string
	for i := strings.LastIndexByte(key, '/'); i > 0; i = strings.LastIndexByte(key[:i], '/') {
		all = append(all, key[:i])
	}
	return all
}

func (m *model) usage() (n int64) {
	for _, body := range m.items {
		n += int64(len(body))
	}
	return n
}

// room tells whether key may become an item.
func (m *model) room(key string) error {
	if m.dirs[key] {
		return repo.ErrIsDir
	}
	for _, p := range parents(key) {
		if _, ok := m.items[p]; ok {
			return repo.ErrNotDir
		}
	}
	return nil
}

func (m *model) put(key, body string) error {
	if m.dirs[key] {
		return repo.ErrIsDir
	}
	if m.limit >= 0 && m.usage()-int64(len(m.items[key]))+int64(len(body)) > m.limit {
		return repo.ErrQuota
	}
	if err := m.room(key); err != nil {
		return err
	}
	m.items[key] = body
	m.makeParents(key)
	return nil
}

func (m *model) makeParents(key string) {
	for _, p := range parents(key) {
		m.dirs[p] = true
	}
}

func (m *model) remove(key string) error {
	if m.dirs[key] {
		return repo.ErrIsDir
	}
	if _, ok := m.items[key]; !ok {
		return repo.ErrNotFound
	}
	delete(m.items, key)
	return nil
}

func (m *model) move(from, to string) error {
	if m.dirs[from] {
		return repo.ErrIsDir
	}
	body, ok := m.items[from]
	if !ok {
		return repo.ErrNotFound
	}
	if from == to {
		return nil
	}
	if err := m.room(to); err != nil {
		return err
	}
	for _, p := range parents(to) {
		if p == from {
			return repo.ErrNotDir
		}
	}
	delete(m.items, from)
	m.items[to] = body
	m.makeParents(to)
	return nil
}

func (m *model) mkdir(key string) error {
	if _, ok := m.items[key]; ok {
		return repo.ErrNotDir
	}
	for _, p := range parents(key) {
		if _, ok := m.items[p]; ok {
			return repo.ErrNotDir
		}
	}
	m.dirs[key] = true
	m.makeParents(key)
	return nil
}

func (m *model) rmdir(key string) error {
	if _, ok := m.items[key]; ok {
		return repo.ErrNotDir
	}
	if !m.dirs[key] {
		return repo.ErrNotFound
	}
	for other := range m.items {
		if strings.HasPrefix(other, key+"/") {
			return repo.ErrNotEmpty
		}
	}
	for other := range m.dirs {
		if strings.HasPrefix(other, key+"/") {
			return repo.ErrNotEmpty
		}
	}
	delete(m.dirs, key)
	return nil
}

// level is one level below dir, sorted by name.
func (m *model) level(dir string) []string {
	found := map[string]string{}
	add := func(key, suffix string) {
		if dir != "" {
			if !strings.HasPrefix(key, dir+"/") {
				return
			}
			key = key[len(dir)+1:]
		}
		if !strings.Contains(key, "/") {
			full := key
			if dir != "" {
				full = dir + "/" + key
			}
			found[key] = full + suffix
		}
	}
	for key := range m.items {
		add(key, "")
	}
	for key := range m.dirs {
		add(key, "/")
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		names[i] = found[name]
	}
	return names
}

// TestModel drives a repository and the model with the same operations, restarts in
// between, and wants the same outcome of each.
func TestModel(t *testing.T) {
	bound(t, "rapid.checks", "60")
	bound(t, "rapid.shrinktime", "20s")
	component := rapid.SampledFrom([]string{"a", "b", "a-b", "a.b", "ab", "c"})
	key := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(component, 1, 3).Draw(t, "components"), "/")
	})
	sha256, err := digest.Lookup("sha256")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.SampledFrom([]int64{-1, 0, 5000, 20000}).Draw(rt, "limit")
		o := repo.SetOptions{Dir: memoryDir(t), Settings: func(string) repo.Settings { return repo.Settings{Quota: limit} }}
		set := repo.OpenSet(o)
		defer func() { set.Close() }()
		r, err := set.Create(ctx, "r", "test")
		if err != nil {
			rt.Fatal(err)
		}
		a := r.As(repo.Principal{})
		m := &model{items: map[string]string{}, dirs: map[string]bool{}, limit: limit}
		same := func(op string, got, want error) {
			rt.Helper()
			if !errors.Is(got, want) || (want == nil && got != nil) {
				rt.Fatalf("%s: got %v, want %v", op, got, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				body := strings.Repeat(rapid.StringMatching(`[a-z]{3}`).Draw(rt, "body"), rapid.IntRange(0, 1000).Draw(rt, "repeat"))
				_, err := put(a, k, body)
				same(fmt.Sprintf("put %s of %d", k, len(body)), err, m.put(k, body))
			},
			"delete": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				same("delete "+k, a.Delete(ctx, k), m.remove(k))
			},
			"deleteAll": func(rt *rapid.T) {
				keys := rapid.SliceOfN(key, 0, 4).Draw(rt, "keys")
				want, dir := 0, false
				for _, k := range keys {
					dir = dir || m.dirs[k]
				}
				got, err := a.DeleteAll(ctx, keys)
				if dir {
					same("delete all with a directory", err, repo.ErrIsDir)
					return
				}
				for _, k := range keys {
					if m.remove(k) == nil {
						want++
					}
				}
				if same("delete all", err, nil); got != want {
					rt.Fatalf("delete all: got %d, want %d", got, want)
				}
			},
			"move": func(rt *rapid.T) {
				from, to := key.Draw(rt, "from"), key.Draw(rt, "to")
				same("move "+from+" to "+to, a.Move(ctx, from, to), m.move(from, to))
			},
			"mkdir": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				same("mkdir "+k, a.MakeDir(ctx, k), m.mkdir(k))
			},
			"rmdir": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				same("rmdir "+k, a.RemoveDir(ctx, k), m.rmdir(k))
			},
			"hash": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				body, ok := m.items[k]
				got, err := a.Hash(ctx, k, sha256)
				h := sha256.New()
				h.Write([]byte(body))
				if ok && (err != nil || !slices.Equal(got, h.Sum(nil))) || !ok && err == nil {
					rt.Fatalf("hash %s: got %x, %v", k, got, err)
				}
			},
			"restart": func(rt *rapid.T) {
				if err := set.Close(); err != nil {
					rt.Fatal(err)
				}
				set = repo.OpenSet(o)
				r, err := set.Get(ctx, "r")
				if err != nil {
					rt.Fatal(err)
				}
				a = r.As(repo.Principal{})
			},
			"": func(rt *rapid.T) {
				if got := a.Repository().Usage(); got.Used != m.usage() || got.Items != int64(len(m.items)) || got.Reserved != 0 {
					rt.Fatalf("usage %+v, want %d bytes in %d items", got, m.usage(), len(m.items))
				}
				for _, dir := range append([]string{""}, key.Draw(rt, "dir")) {
					if dir != "" && !m.dirs[dir] {
						continue
					}
					if got, want := list(t, a, dir, false), m.level(dir); !slices.Equal(got, want) {
						rt.Fatalf("list %q: got %q, want %q", dir, got, want)
					}
				}
				for k, body := range m.items {
					if got, err := get(a, k); err != nil || got != body {
						rt.Fatalf("get %s: got %.20q, %v; want %.20q", k, got, err, body)
					}
				}
			},
		})
	})
}

// bound sets a flag of package rapid, unless the command line did.
func bound(t *testing.T, name, value string) {
	t.Helper()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	if !set {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
}
