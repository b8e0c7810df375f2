package adopt_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/blake2b"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/recovery"
	"packhouse/repo/repotest"
)

var ctx = context.Background()

// tree is a directory of another server: what its files hold, by path.
type tree map[string]string

func sha(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// borgTree is what borg leaves with BorgStore's file backend. items are the files that become items.
func borgTree() (all, items tree) {
	items = tree{
		"config/id": "0123", "config/manifest": "manifest", "config/version": "1", "config/readme": "This is a Borg repository",
		"keys/" + sha("key"):              "key",
		"archives/" + sha("a"):            "",
		"archives/" + sha("b") + ".del":   "",
		"index/" + sha("index"):           "index",
		"locks/" + sha("old lock"):        "old lock",
		"cache/checked-packs":             strings.Repeat("c", 1000),
		"packs/ab/" + sha("not a digest"): "its name is another digest",
	}
	for i := range 40 {
		body := strings.Repeat(fmt.Sprintf("pack %d ", i), 1+500*i)
		name := sha(body)
		items["packs/"+name[:2]+"/"+name] = body
	}
	all = maps.Clone(items)
	all["packs/ab/tmpabcdefgh.tmp"] = "unfinished"
	all["quota.hid"] = "12345"
	return all, items
}

// write makes the directory; the files are an hour old and older, each a second apart.
func (t tree) write(tb testing.TB, dir string) string {
	tb.Helper()
	at := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		path := filepath.Join(dir, name)
		at = at.Add(time.Second)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(t[name]), 0o640), os.Chtimes(path, at, at)); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// inodes is what must not change of the files of a source.
func inodes(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		body := ""
		if entry.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			body = sha(string(b))
		}
		found[path] = fmt.Sprintf("%d %v %d:%d %d %v %s", st.Ino, info.Mode(), st.Uid, st.Gid, info.Size(), info.ModTime(), body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantSame(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s: %s: got %.200q, want %.200q", what, key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d, want %d", what, len(got), len(want))
	}
}

// open opens the repository "r" of a data directory.
func open(t testing.TB, data string) (*datadir.Set, *repo.Access) {
	t.Helper()
	s := repotest.NewSet(t, func(o *datadir.Options) { o.Dir = data })
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	return s, r.As(repo.Principal{Name: "tester"})
}

// wantItems wants exactly the items of a source, with their bytes and times.
func wantItems(t testing.TB, a *repo.Access, source string, want tree) {
	t.Helper()
	got := make(map[string]string)
	err := a.List(ctx, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		got[e.Key] = e.Item.Modified.String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	times := make(map[string]string)
	layout, _, err := adopt.Detect(vfs.OS(), source)
	if err != nil {
		layout = "borgstore" // what shows nothing
	}
	for name := range want {
		info, err := os.Stat(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		times[adopt.Key(layout, name)] = info.ModTime().Truncate(time.Millisecond).String()
	}
	wantSame(t, "items and their times", got, times)
	for name, body := range want {
		key := adopt.Key(layout, name)
		if got, err := repotest.Get(a, key); err != nil || got != body {
			t.Errorf("%s: got %.40q, %v; want %.40q", key, got, err, body)
		}
	}
}

func options(source, data string) adopt.Options {
	return adopt.Options{Source: source, Into: data, Name: "r"}
}

// sides are a source and a data directory on one file system.
func sides(t testing.TB) (source, data string) {
	t.Helper()
	top := repotest.MemoryDir(t)
	source, data = filepath.Join(top, "source"), filepath.Join(top, "data")
	if err := errors.Join(os.Mkdir(source, 0o755), os.Mkdir(data, 0o700)); err != nil {
		t.Fatal(err)
	}
	return source, data
}

func mustAdopt(t testing.TB, o adopt.Options) *adopt.Survey {
	t.Helper()
	s, err := adopt.Run(ctx, o)
	if err != nil {
		t.Fatalf("adopt: %v (%+v)", err, s)
	}
	return s
}

// TestBorgStore: a directory of BorgStore's file backend becomes a repository; nothing of its files is changed, whatever is done with the
// repository, and what was never read is unverified until a scrub holds it against its name.
func TestBorgStore(t *testing.T) {
	all, items := borgTree()
	source, data := sides(t)
	all.write(t, source)
	before := inodes(t, source)
	if s, err := adopt.Look(ctx, options(source, data)); err != nil || s.Files != int64(len(items)) || s.Skipped != 2 || s.Err(false) != nil {
		t.Errorf("look: got %+v, %v", s, err)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
		t.Errorf("a look made %v, %v", left, err)
	}
	mustAdopt(t, options(source, data))
	set, a := open(t, data)
	r := a.Repository()
	wantItems(t, a, source, items)
	u := r.Usage()
	backup, err := os.Stat(filepath.Join(source, "archives", sha("a")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Dialect() != "borgstore" || u.UnverifiedItems != int64(len(items)) || u.Exempt != int64(len("old lock")) || !u.LastBackup.Equal(backup.ModTime()) {
		t.Errorf("dialect %s, usage %+v", r.Dialect(), u)
	}
	damaged := 0
	for key := range items {
		entry, err := r.Entry(key)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Verify(ctx, entry, nil)
		if wrong := strings.HasPrefix(key, "packs/ab/"+sha("not a digest")); wrong != errors.Is(err, repo.ErrDamaged) || !wrong && err != nil {
			t.Errorf("%s: verify: %v", key, err)
		} else if wrong {
			damaged++
		}
	}
	if u := r.Usage(); damaged != 1 || u.UnverifiedItems != 1 || u.DamagedItems != 1 {
		t.Errorf("after reading all: %+v", u)
	}
	// What a client does with an item reaches the repository's name of the file only.
	repotest.MustPut(t, a, "config/manifest", "another")
	if err := errors.Join(a.Delete(ctx, "config/readme"), a.Move(ctx, "archives/"+sha("a"), "archives/"+sha("a")+".del")); err != nil {
		t.Error(err)
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the source", inodes(t, source), before)
}

// TestVGer: the directory of each generation of V'Ger's server becomes a repository, whose packs are held against the digest of its format.
func TestVGer(t *testing.T) {
	pack := func(i int) string { return "VGERPACK\x01" + strings.Repeat(string(rune('a'+i)), 1000*i) }
	b2 := func(body string) string { sum := blake2b.Sum256([]byte(body)); return hex.EncodeToString(sum[:]) }
	b3 := func(body string) string { sum := blake3.Sum256([]byte(body)); return hex.EncodeToString(sum[:]) }
	for _, c := range []struct {
		name   string
		config string
		digest func(string) string
		others tree
		backup string
	}{
		{"format 1", "\x98\x01", b2, tree{"manifest": "m", "pending_index": "p"}, "manifest"},
		{"format 2", "\x9a\x02", b2, tree{"index.gen": "12345678", "snapshots/" + sha("s"): "s", "sessions/default.index": "j"}, "snapshots/" + sha("s")},
		{"format 3", "\xdc\x00\x10\x03", b3, tree{"keys/repokey.2": "k", "locks/00.json": "{}", "snapshots/" + sha("s"): "s"}, "snapshots/" + sha("s")},
	} {
		t.Run(c.name, func(t *testing.T) {
			items := tree{"config": c.config, "index": "index", "keys/repokey": "k"}
			maps.Copy(items, c.others)
			for i := range 5 {
				id := c.digest(pack(i))
				items["packs/"+id[:2]+"/"+id] = pack(i)
			}
			all := maps.Clone(items)
			for _, name := range []string{".tmp.index.0", "packs/ab/.tmp.repack.3", "packs/ab/.repack_tmp.1", "snapshots/.tmp.x.1", ".tmp.0123456789abcdef"} {
				all[name] = "unfinished"
			}
			source, data := sides(t)
			all.write(t, source)
			before := inodes(t, source)
			if s := mustAdopt(t, options(source, data)); s.Skipped != 5 || s.Newest != c.backup {
				t.Errorf("survey: %+v", s)
			}
			set, a := open(t, data)
			wantItems(t, a, source, items)
			for key := range items {
				entry, err := a.Repository().Entry(key)
				if err == nil {
					err = a.Repository().Verify(ctx, entry, nil)
				}
				if err != nil || strings.HasPrefix(key, "packs/") == (entry.Item.Algorithm == "") {
					t.Errorf("%s: %v, algorithm %q", key, err, entry.Item.Algorithm)
				}
			}
			if u := a.Repository().Usage(); a.Repository().Dialect() != "vger" || u.UnverifiedItems != 0 || u.LastBackup.IsZero() {
				t.Errorf("dialect %s, usage %+v", a.Repository().Dialect(), u)
			}
			if err := set.Close(); err != nil {
				t.Fatal(err)
			}
			wantSame(t, "the source", inodes(t, source), before)
		})
	}
}

// TestNamesOfBorg: by which hash borg has named its files, the files say, and some of them may be damaged.
func TestNamesOfBorg(t *testing.T) {
	b3 := func(body string) string { sum := blake3.Sum256([]byte(body)); return hex.EncodeToString(sum[:]) }
	for _, c := range []struct {
		name  string
		named func(string) string
		first string // what the first index is
		want  string
	}{
		{"SHA-256", sha, "index", "sha256"},
		{"BLAKE3", b3, "index", "blake3"},
		{"BLAKE3, of which one is damaged", b3, "damaged", "blake3"},
		{"another", func(body string) string { return sha(b3(body)) }, "index", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, layout := range []string{"", "borgstore"} {
				items := tree{"config/config": "version = 5", "archives/" + sha("a"): "", "index/" + c.named("index"): c.first, "keys/" + sha("k"): "k"}
				for i := range 20 {
					body := fmt.Sprint("pack ", i)
					items["packs/"+c.named(body)[:2]+"/"+c.named(body)] = body
				}
				source, data := sides(t)
				items.write(t, source)
				o := options(source, data)
				o.Layout = layout
				mustAdopt(t, o)
				_, a := open(t, data)
				for key := range items {
					want := ""
					if strings.HasPrefix(key, "packs/") || strings.HasPrefix(key, "index/") {
						want = c.want
					}
					if entry, err := a.Repository().Entry(key); err != nil || entry.Item.Algorithm != want {
						t.Errorf("%s: named by %q, %v; want %q", key, entry.Item.Algorithm, err, want)
					}
				}
			}
		})
	}
}

// TestRefused: what cannot be adopted is told in one line, and neither side is changed.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(tree)
		after  func(t *testing.T, source string)
		want   string
	}{
		{name: "empty", change: func(t tree) { clear(t) }, want: "empty"},
		{name: "unknown", change: func(t tree) { clear(t); t["x/y"] = "z" }, want: "recognized"},
		{name: "several", change: func(t tree) { clear(t); t["a/config"], t["b/config"] = "\x98\x01", "\x98\x01" }, want: "one by one, under a name each: a, b"},
		{name: "borg 1", change: func(t tree) { clear(t); t["README"], t["config"], t["data/0/1"] = "", "", "" }, want: "BorgBackup 1"},
		{name: "restic", change: func(t tree) { clear(t); t["config"], t["data/00/1"], t["keys/1"] = "", "", "" }, want: "restic"},
		{name: "mixture", change: func(t tree) { clear(t); t["config"], t["keys/x"], t["archives/y"] = "\x98\x01", "x", "y" }, want: "archives/y: no name of V'Ger"},
		{name: "mixture with borg", change: func(t tree) { t["manifest"], t["snapshots/x"] = "x", "y" }, want: "2 files cannot be adopted; the first is manifest: no name of borg"},
		{name: "mixture of two repositories", change: func(t tree) { clear(t); t["config"], t["keys/x"], t["laptop/config"] = "\x98\x01", "x", "y" }, want: "laptop/config: no name of V'Ger"},
		{name: "no name", change: func(t tree) { t["packs/Ab"] = "x" }, want: "packs/Ab: no name of BorgStore: name must be lowercase"},
		{name: "several files", change: func(t tree) { t["packs/Ab"], t["packs/a b"] = "x", "y" }, want: "2 files cannot be adopted; the first is packs/Ab"},
		{name: "escapes", change: func(t tree) { t["config/a\x1b[31m\nb"] = "x" }, want: `"config/a\x1b[31m\nb": name must not`},
		{name: "not UTF-8", change: func(t tree) { t["config/a\xff"] = "x" }, want: `"config/a\xff": no name of BorgStore: name must encode to plain ascii`},
		{name: "several with escapes", change: func(t tree) { clear(t); t["a\x1b/config"] = "\x98\x01" }, want: `each: "a\x1b"`},
		{name: "V'Ger", change: func(t tree) { clear(t); t["config"], t["packs/ab/zz"] = "\x98\x01", "x" }, want: "packs/ab/zz: no name of V'Ger"},
		{name: "link", after: func(t *testing.T, source string) {
			if err := os.Symlink("manifest", filepath.Join(source, "config", "other")); err != nil {
				t.Fatal(err)
			}
		}, want: "config/other: a symbolic link"},
		{name: "pipe", after: func(t *testing.T, source string) {
			if err := syscall.Mkfifo(filepath.Join(source, "config", "pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, want: "config/pipe: neither"},
		{name: "fresh lock", after: func(t *testing.T, source string) {
			if err := os.Chtimes(filepath.Join(source, "locks", sha("old lock")), time.Time{}, time.Now().Add(-time.Minute)); err != nil {
				t.Fatal(err)
			}
		}, want: "touched 1m0s ago: the directory may be in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, _ := borgTree()
			if c.change != nil {
				c.change(all)
			}
			source, data := sides(t)
			all.write(t, source)
			if c.after != nil {
				c.after(t, source)
			}
			before := inodes(t, source)
			s, err := adopt.Run(ctx, options(source, data))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v (%+v), want %q", err, s, c.want)
			}
			if left, err := os.ReadDir(data); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			wantSame(t, "the source", inodes(t, source), before)
		})
	}
}

// TestForce: a lock that was touched a moment ago is adopted as it is, if that is asked for.
func TestForce(t *testing.T) {
	all, items := borgTree()
	source, data := sides(t)
	all.write(t, source)
	lock := filepath.Join(source, "locks", sha("old lock"))
	if err := os.Chtimes(lock, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	o := options(source, data)
	o.Force = true
	mustAdopt(t, o)
	_, a := open(t, data)
	wantItems(t, a, source, items)
}

// TestTimesInTheFuture: a file that claims to have been stored later than now was stored when it was adopted: also after the index was lost.
func TestTimesInTheFuture(t *testing.T) {
	all, _ := borgTree()
	source, data := sides(t)
	all.write(t, source)
	future, before := time.Now().Add(100*24*time.Hour), time.Now().Truncate(time.Millisecond)
	for _, name := range []string{"archives/" + sha("a"), "config/manifest"} {
		if err := os.Chtimes(filepath.Join(source, name), future, future); err != nil {
			t.Fatal(err)
		}
	}
	if s := mustAdopt(t, options(source, data)); s.Backup.After(time.Now()) {
		t.Errorf("survey: %+v", s)
	}
	check := func() {
		t.Helper()
		set, a := open(t, data)
		for _, name := range []string{"archives/" + sha("a"), "config/manifest"} {
			entry, err := a.Repository().Entry(name)
			if err != nil || entry.Item.Modified.Before(before) || entry.Item.Modified.After(time.Now()) || !entry.Item.Created.Equal(entry.Item.Modified) {
				t.Errorf("%s: %+v, %v", name, entry.Item, err)
			}
		}
		if u := a.Repository().Usage(); u.LastBackup.Before(before) || u.LastBackup.After(time.Now()) {
			t.Errorf("last backup %v", u.LastBackup)
		}
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check()
	dir := filepath.Join(data, "r")
	if err := errors.Join(os.Remove(filepath.Join(dir, "index.db")), os.RemoveAll(filepath.Join(dir, "log"))); err != nil {
		t.Fatal(err)
	}
	if _, err := recovery.Rebuild(ctx, dir, recovery.RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	check()
	if done, err := adopt.Finish(ctx, options(source, data)); err != nil || done.Kept != 0 {
		t.Errorf("finish: %+v, %v", done, err)
	}
}

// TestServerRuns: a directory that a server was started with is refused, whichever way its command line names it.
func TestServerRuns(t *testing.T) {
	all, _ := borgTree()
	source, data := sides(t)
	all.write(t, source)
	for _, c := range []struct{ program, arg string }{
		{"vykar-server", source}, {"/usr/bin/vger-server", "--data-dir=" + source}, {"borgstore-server-rest", "file://" + source}, {"vykar-server", "."},
	} {
		t.Run(c.program+" "+c.arg, func(t *testing.T) {
			server := exec.Command("/bin/sh")
			server.Args = []string{c.program, "-c", "read line", c.arg} // it waits for the end of its input
			server.Dir = source
			input, err := server.StdinPipe()
			if err == nil {
				err = server.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = adopt.Run(ctx, options(source, data))
			if want := fmt.Sprintf("%s serves the directory (process %d)", filepath.Base(c.program), server.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			_ = input.Close()
			_ = server.Wait() // its exit code is that of read
		})
	}
	mustAdopt(t, options(source, data))
}

// TestLostIndex: an index that is lost is made again from the list and the labels of what was read: before the first scrub, after a
// part was read, and when items have been stored, replaced and removed since.
func TestLostIndex(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("read=%v", read), func(t *testing.T) {
			all, items := borgTree()
			// Bytes that look like a blob of an older version with a label of their own are a foreign file's all the same.
			forged, err := os.ReadFile(filepath.Join("..", "..", "blobstore", "testdata", "format1.blob"))
			if err != nil {
				t.Fatal(err)
			}
			name := "packs/" + sha(string(forged))[:2] + "/" + sha(string(forged))
			all[name], items[name] = string(forged), string(forged)
			source, data := sides(t)
			all.write(t, source)
			mustAdopt(t, options(source, data))
			set, a := open(t, data)
			n := 0
			for key := range items {
				entry, err := a.Repository().Entry(key)
				if err != nil {
					t.Fatal(err)
				}
				if n++; read && n%2 == 0 && !strings.HasPrefix(key, "packs/ab/"+sha("not a digest")) {
					if err := a.Repository().Verify(ctx, entry, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			repotest.MustPut(t, a, "config/manifest", "newer")
			repotest.MustPut(t, a, "archives/"+sha("c"), "")
			if err := a.Delete(ctx, "config/readme"); err != nil {
				t.Fatal(err)
			}
			repotest.WaitFor(t, "the trash to empty", func() bool { return a.Repository().Usage().TrashItems == 0 })
			unverified := a.Repository().Usage().UnverifiedItems
			if err := set.Close(); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(data, "r")
			if err := errors.Join(os.Remove(filepath.Join(dir, "index.db")), os.RemoveAll(filepath.Join(dir, "log"))); err != nil {
				t.Fatal(err)
			}
			if err := datadir.Inspect(dir); !errors.Is(err, repo.ErrCorrupt) {
				t.Errorf("without its index: got %v, want ErrCorrupt", err)
			}
			report, err := recovery.Rebuild(ctx, dir, recovery.RebuildOptions{})
			if err != nil || report.Items != int64(len(items)) || report.Unreadable != 0 { // one removed, one stored
				t.Errorf("rebuild: %+v, %v; want %d items", report, err, len(items))
			}
			_, a = open(t, data)
			if origin, err := a.Repository().Meta(layout.MetaAdopted); err != nil || !strings.Contains(string(origin), `"source":"`+source) {
				t.Errorf("origin: %s, %v", origin, err)
			}
			if u := a.Repository().Usage(); u.UnverifiedItems != unverified || a.Repository().Dialect() != "borgstore" {
				t.Errorf("dialect %s, usage %+v, want %d unverified", a.Repository().Dialect(), u, unverified)
			}
			delete(items, "config/readme")
			items["config/manifest"], items["archives/"+sha("c")] = "newer", ""
			for key, body := range items {
				repotest.WantContent(t, a, key, body)
			}
		})
	}
}

// elsewhere is a directory on another file system than that of dir. On a machine that has none that can be written to, a run that is to leave
// nothing out fails.
func elsewhere(t *testing.T, dir string) string {
	t.Helper()
	for _, parent := range []string{"/dev/shm", "/tmp", "/var/tmp", "."} {
		other, err := os.MkdirTemp(parent, "adopt-elsewhere-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.RemoveAll(other) })
		if stat(t, other).Dev != stat(t, dir).Dev {
			if other, err = filepath.Abs(other); err != nil {
				t.Fatal(err)
			}
			return other
		}
	}
	if os.Getenv("PACKHOUSE_STRICT") != "" {
		t.Fatal("this machine has no second file system: mount a tmpfs at /dev/shm")
	}
	t.Skip("this machine has no second file system")
	return ""
}

// TestCopy: from another file system files are copied, and what was copied has its BLAKE3 and its label at once, so that it is found
// without the list.
func TestCopy(t *testing.T) {
	all, items := borgTree()
	source := t.TempDir()
	data := elsewhere(t, source)
	all.write(t, source)
	if s := mustAdopt(t, options(source, data)); s.Method != "copy" {
		t.Errorf("survey: %+v", s)
	}
	set, access := open(t, data)
	wantItems(t, access, source, items)
	if u := access.Repository().Usage(); u.UnverifiedItems != 0 {
		t.Errorf("usage: %+v", u)
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(data, "r")
	if err := errors.Join(os.Remove(filepath.Join(dir, "index.db")), os.RemoveAll(filepath.Join(dir, "log")), os.RemoveAll(filepath.Join(dir, layout.AdoptedDir))); err != nil {
		t.Fatal(err)
	}
	if report, err := recovery.Rebuild(ctx, dir, recovery.RebuildOptions{}); err != nil || report.Items != int64(len(items)) {
		t.Errorf("rebuild without the list: %+v, %v", report, err)
	}
}

// TestRepositoryOnAnotherDisk: what counts is where the directory of the repository leads, if it is there, and not where its data directory lies.
func TestRepositoryOnAnotherDisk(t *testing.T) {
	here := t.TempDir()
	there := elsewhere(t, here)
	for _, c := range []struct{ source, data, disk, want string }{{here, here, there, "copy"}, {here, there, here, "link"}} {
		source, data, disk := filepath.Join(c.source, "source-"+c.want), filepath.Join(c.data, "data-"+c.want), filepath.Join(c.disk, "disk-"+c.want)
		items := smallTree()
		items.write(t, source)
		if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(disk, 0o700), os.Symlink(disk, filepath.Join(data, "r"))); err != nil {
			t.Fatal(err)
		}
		if s := mustAdopt(t, options(source, data)); s.Method != c.want {
			t.Errorf("got %+v, want %s", s, c.want)
		}
		set, a := open(t, data)
		wantItems(t, a, source, items)
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		if left, err := filepath.Glob(filepath.Join(disk, "*adopting*")); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
}

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}
