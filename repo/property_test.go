package repo_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
)

// TestModel drives a repository and the model with the same operations, restarts in
// between, and wants the same outcome of each.
func TestModel(t *testing.T) {
	bound(t, "rapid.checks", "60")
	bound(t, "rapid.shrinktime", "20s")
	component := rapid.SampledFrom([]string{"a", "b", "a-b", "a.b", "ab", "c"})
	path := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(component, 1, 3).Draw(t, "components"), "/")
	})
	key := rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 4).Draw(t, "commit key") == 0 {
			return rapid.SampledFrom([]string{"index", "index.gen", "index/a", "cache/a", "config/manifest", "sessions/a"}).Draw(t, "name")
		}
		return rapid.SampledFrom([]string{"", "", "", "locks/"}).Draw(t, "top") + path.Draw(t, "path")
	})
	body := rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.StringMatching(`[a-b]{3}`).Draw(t, "body"), rapid.IntRange(0, 1000).Draw(t, "repeat"))
	})
	limits := rapid.SampledFrom([]int64{-1, 0, 2000, 5000, 20000})
	sha256, err := digest.Lookup("sha256")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			dialect: rapid.SampledFrom([]string{"test", "vger", "borgstore"}).Draw(rt, "dialect"),
			items:   map[string]modelItem{}, dirs: map[string]bool{}, limit: limits.Draw(rt, "limit"),
			grace: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "grace"), now: time.Now().Truncate(time.Millisecond),
		}
		var clock atomic.Pointer[time.Time] // of m.now; the reclaimer reads it too
		tick := func() { now := m.now; clock.Store(&now) }
		tick()
		settings := repo.Settings{Quota: m.limit, TrashQuota: -1, Grace: m.grace}
		o := datadir.Options{Dir: memoryDir(t), Settings: func(string) repo.Settings { return settings }}
		o.Now = func() time.Time { return *clock.Load() }
		o.Small = rapid.SampledFrom([]int64{0, 500, index.MaxPayload}).Draw(rt, "small")
		o.Index.SegmentSize = 32 << 10
		set := datadir.Open(o)
		defer func() { set.Close() }()
		r, err := set.Create(ctx, "r", m.dialect)
		if err != nil {
			rt.Fatal(err)
		}
		writer := repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)}
		a := r.As(repo.Principal{})
		same := func(op string, got, want error) {
			rt.Helper()
			if !errors.Is(got, want) || (want == nil && got != nil) {
				rt.Fatalf("%s: got %v, want %v", op, got, want)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				k, b := key.Draw(rt, "key"), body.Draw(rt, "body")
				_, err := put(a, k, b)
				same(fmt.Sprintf("put %s of %d", k, len(b)), err, m.put(k, b))
			},
			"putOfUnknownLength": func(rt *rapid.T) {
				k, b := key.Draw(rt, "key"), body.Draw(rt, "body")
				_, err := a.Put(ctx, repo.PutRequest{Key: k, Body: strings.NewReader(b), Size: -1})
				same(fmt.Sprintf("put %s of unknown %d", k, len(b)), err, m.put(k, b))
			},
			"putNew": func(rt *rapid.T) {
				k, b := key.Draw(rt, "key"), body.Draw(rt, "body")
				_, err := put(a.Repository().As(writer), k, b)
				same(fmt.Sprintf("put new %s of %d", k, len(b)), err, m.putNew(k, b))
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
			"plan": func(rt *rapid.T) {
				k, b := path.Draw(rt, "key"), body.Draw(rt, "body")
				deletes := rapid.SliceOfNDistinct(key, 0, 3, rapid.ID).Draw(rt, "deletes")
				deletes = slices.DeleteFunc(deletes, func(d string) bool { return d == k })
				net := int64(len(b))
				for _, d := range append(slices.Clone(deletes), k) {
					net -= m.items[d].counted()
				}
				same(fmt.Sprintf("plan %s of %d for %q", k, len(b), deletes), plan(a, net, deletes, k, b), m.plan(deletes, k, b))
			},
			"move": func(rt *rapid.T) {
				from, to := key.Draw(rt, "from"), key.Draw(rt, "to")
				// From and to locks, more often than chance would have it.
				if keys := slices.Sorted(maps.Keys(m.items)); len(keys) > 0 && rapid.Bool().Draw(rt, "existing") {
					from = rapid.SampledFrom(keys).Draw(rt, "item")
				}
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
				item, ok := m.items[k]
				got, err := a.Hash(ctx, k, sha256)
				h := sha256.New()
				h.Write([]byte(item.body))
				if ok && (err != nil || !slices.Equal(got, h.Sum(nil))) || !ok && err == nil {
					rt.Fatalf("hash %s: got %x, %v", k, got, err)
				}
			},
			"restore": func(rt *rapid.T) {
				rows := restorable(t, a.Repository(), m.now)
				if len(rows) == 0 {
					rt.Skip("the trash is empty")
				}
				row := rapid.SampledFrom(rows).Draw(rt, "row")
				i := slices.IndexFunc(m.trash, func(r modelRow) bool {
					return r.key == row.Key && blake3.Sum256([]byte(r.item.body)) == row.Item.BLAKE3 && r.expires.Equal(row.Expires)
				})
				if i < 0 {
					rt.Fatalf("trash has %q of %d bytes", row.Key, row.Item.Size)
				}
				to := rapid.SampledFrom([]string{"", key.Draw(rt, "to")}).Draw(rt, "key")
				_, err := a.Repository().Restore(ctx, row.ID, to)
				if to == "" {
					to = row.Key
				}
				same(fmt.Sprintf("restore %s to %s", row.Key, to), err, m.restore(i, to))
			},
			"wait": func(*rapid.T) { // never for just the grace time
				m.advance(40 * time.Minute)
				tick()
			},
			"setQuota": func(rt *rapid.T) {
				m.limit = limits.Draw(rt, "limit")
				same("set quota", a.Repository().SetQuota(ctx, m.limit), nil)
			},
			"vacuum": func(rt *rapid.T) {
				_, err := a.Repository().Vacuum(ctx, nil, nil)
				same("vacuum", err, nil)
			},
			"reconfigure": func(rt *rapid.T) { set.Reconfigure(); settings.Quota = m.limit },
			"restart": func(rt *rapid.T) {
				if err := set.Close(); err != nil {
					rt.Fatal(err)
				}
				set = datadir.Open(o)
				r, err := set.Get(ctx, "r")
				if err != nil {
					rt.Fatal(err)
				}
				a = r.As(repo.Principal{})
			},
			"kill": func(rt *rapid.T) { // what is on the disk now is all that the next process has
				if err := a.Repository().ReclaimSome(ctx); err != nil { // no blob goes while they are copied
					rt.Fatal(err)
				}
				killed := memoryDir(t)
				if err := os.CopyFS(killed, os.DirFS(o.Dir)); err != nil {
					rt.Fatal(err)
				}
				if err := set.Close(); err != nil {
					rt.Fatal(err)
				}
				o.Dir = killed
				set = datadir.Open(o)
				r, err := set.Get(ctx, "r")
				if err != nil {
					rt.Fatal(err)
				}
				a = r.As(repo.Principal{})
			},
			"": func(rt *rapid.T) {
				if got := a.Repository().Usage(); got.Used != m.usage() || got.Items != int64(len(m.items)) || got.Reserved != 0 || got.Limit != m.limit {
					rt.Fatalf("usage %+v, want %d bytes of %d in %d items", got, m.usage(), m.limit, len(m.items))
				}
				if got := len(restorable(t, a.Repository(), m.now)); got != len(m.trash) {
					rt.Fatalf("%d items can be restored, want %d", got, len(m.trash))
				}
				for _, dir := range append([]string{""}, key.Draw(rt, "dir")) {
					if dir != "" && !m.dirs[dir] {
						continue
					}
					if got, want := list(t, a, dir, false), m.level(dir); !slices.Equal(got, want) {
						rt.Fatalf("list %q: got %q, want %q", dir, got, want)
					}
				}
				for k, item := range m.items {
					if got, err := get(a, k); err != nil || got != item.body {
						rt.Fatalf("get %s: got %.20q, %v; want %.20q", k, got, err, item.body)
					}
				}
			},
		})
		checkAll(t, set)
		if err := a.Repository().ReclaimSome(ctx); err != nil {
			rt.Fatal(err)
		}
		want := inFiles(t, a.Repository())
		if placed, incoming := blobFiles(t, repo.Dir(a.Repository())); placed != want || incoming != 0 {
			rt.Fatalf("%d blobs and %d unfinished for %d items and %d in the trash, want %d", placed, incoming, len(m.items), len(m.trash), want)
		}
	})
}

// restorable is the trash without what the reclaimer may take at any moment.
func restorable(t testing.TB, r *repo.Repository, now time.Time) (rows []index.Removed) {
	t.Helper()
	err := r.Trash(func(row index.Removed) error {
		if row.Expires.After(now) {
			rows = append(rows, row)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
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
