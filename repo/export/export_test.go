package export_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/export"
	"packhouse/repo/repotest"
	"packhouse/repo/transfer"
)

func sha(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// borgItems are what borg stores, with items of a few bytes and larger ones.
func borgItems() map[string]string {
	items := map[string]string{
		"config/manifest": "manifest", "config/id": "0123", "keys/" + sha("key"): "key", "archives/" + sha("a"): "", "archives/" + sha("b") + ".del": "",
		"index/" + sha("index"): "index",
	}
	for i := range 10 {
		body := strings.Repeat(fmt.Sprintf("pack %d ", i), 1+200*i)
		items["packs/"+sha(body)[:2]+"/"+sha(body)] = body
	}
	return items
}

// newRepository makes the repository "r" of borg in a data directory beside which exports can be made. Items up to small bytes are in the log.
func newRepository(t testing.TB, small int64, items map[string]string) (a *repo.Access, top string) {
	t.Helper()
	return newRepositoryOf(t, "borgstore", small, items)
}

func newRepositoryOf(t testing.TB, dialect string, small int64, items map[string]string) (a *repo.Access, top string) {
	t.Helper()
	top = repotest.MemoryDir(t)
	return newRepositoryAt(t, filepath.Join(top, "data"), dialect, small, items), top
}

// newRepositoryAt makes the repository "r" in a data directory.
func newRepositoryAt(t testing.TB, data, dialect string, small int64, items map[string]string) *repo.Access {
	t.Helper()
	set := repotest.NewSet(t, func(o *datadir.Options) { o.Dir, o.Small, o.TableMemory = data, small, 1000 })
	r, err := set.Create(t.Context(), "r", dialect)
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{Name: "tester"})
	for key, body := range items {
		repotest.MustPut(t, a, key, body)
	}
	return a
}

// opened is the repository "r" of a data directory.
func opened(t testing.TB, data string) *repo.Repository {
	t.Helper()
	r, err := repotest.NewSet(t, func(o *datadir.Options) { o.Dir = data }).Get(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// files are what the files of a directory hold, by path.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, dir+"/")] = string(body)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

func wantFiles(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := files(t, dir)
	for path, body := range want {
		if b, there := got[path]; !there || b != body {
			t.Errorf("%s: got %.40q, %v; want %.40q", path, b, there, body)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// inodes is what must not change of the blobs of a repository.
func inodes(t testing.TB, r string) string {
	t.Helper()
	var text strings.Builder
	for _, path := range repotest.BlobPaths(t, r) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&text, path, st.Ino, info.Mode(), st.Uid, st.Gid, info.Size(), info.ModTime())
	}
	return text.String()
}

func wantNone(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{dir, dir + ".partial"} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
}

// TestExport: what is exported is what the repository holds, as the other server writes it; linked where a blob is a file, and without a change of that.
// Adopted again, it is the same.
func TestExport(t *testing.T) {
	for _, c := range []struct {
		name           string
		small          int64
		copy           bool
		linked, copied int64
	}{{"links", 0, false, 16, 0}, {"small items in the log", 1 << 10, false, 9, 7}, {"copies", 0, true, 0, 16}} {
		t.Run(c.name, func(t *testing.T) {
			items := borgItems()
			a, top := newRepository(t, c.small, items)
			repotest.MustPut(t, a, "locks/"+sha("lock"), "lock")
			if err := a.MakeDir(t.Context(), "cache"); err != nil {
				t.Fatal(err)
			}
			before := inodes(t, filepath.Join(top, "data", "r"))
			o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "out"), Copy: c.copy}
			want := export.Report{Layout: o.Layout, Dir: o.Dir, LeftOut: 1, Linked: transfer.Amount{Items: c.linked}, Copied: transfer.Amount{Items: c.copied}}
			same := func(what string, report export.Report, err error) {
				t.Helper()
				report.Linked.Bytes, report.Copied.Bytes = 0, 0
				if err != nil || report != want {
					t.Fatalf("%s: got %+v, %v; want %+v", what, report, err, want)
				}
			}
			report, err := export.Look(t.Context(), o)
			same("look", report, err)
			wantNone(t, o.Dir)
			if err := os.Mkdir(o.Dir, 0o700); err != nil { // an empty one gives way
				t.Fatal(err)
			}
			report, err = export.Run(t.Context(), o)
			same("run", report, err)
			wantFiles(t, o.Dir, items)
			wantNone(t, o.Dir+".partial")
			if got := inodes(t, filepath.Join(top, "data", "r")); got != before {
				t.Errorf("the blobs: got\n%s, want\n%s", got, before)
			}
			for name, mode := range map[string]fs.FileMode{"": fs.ModeDir | 0o755, "cache": fs.ModeDir | 0o755, "packs": fs.ModeDir | 0o755, "config/id": 0o600} {
				if info, err := os.Stat(filepath.Join(o.Dir, name)); err != nil || info.Mode() != mode {
					t.Errorf("mode of %q: %v, %v; want %v", name, info.Mode(), err, mode)
				}
			}
			if _, err := export.Run(t.Context(), o); !errors.Is(err, repo.ErrExists) {
				t.Errorf("again: %v", err)
			}
			wantAdopted(t, a, o.Dir, top, c.copied > 0)
		})
	}
}

// wantAdopted wants an exported directory to become a repository with the same items, and those of copies with the same times.
func wantAdopted(t *testing.T, a *repo.Access, dir, top string, times bool) {
	t.Helper()
	into := filepath.Join(top, "again")
	if err := os.Mkdir(into, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: dir, Into: into, Name: "r"}); err != nil {
		t.Fatalf("adopt: %v", err)
	}
	r, err := repotest.NewSet(t, func(o *datadir.Options) { o.Dir = into }).Get(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	adopted := 0
	err = r.As(repo.Principal{}).Each(t.Context(), index.ListOptions{Recursive: true}, func(e index.Entry) error {
		adopted++
		was, err := a.Repository().Entry(e.Key)
		if err != nil {
			return err
		}
		if was.Item.Size != e.Item.Size || times && e.Key == "config/id" && !was.Item.Modified.Equal(e.Item.Modified) {
			t.Errorf("%s: got %d bytes of %v, want %d of %v", e.Key, e.Item.Size, e.Item.Modified, was.Item.Size, was.Item.Modified)
		}
		return r.Verify(t.Context(), e, nil)
	})
	if err != nil || adopted != len(borgItems()) {
		t.Errorf("adopted again: %d items, %v", adopted, err)
	}
}

// TestLinksOfAdopted: what was adopted by links and is exported is the same file still, also before anybody has read it.
func TestLinksOfAdopted(t *testing.T) {
	top := repotest.MemoryDir(t)
	source, data := filepath.Join(top, "source"), filepath.Join(top, "data")
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for key, body := range borgItems() {
		path := filepath.Join(source, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o640), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: source, Into: data, Name: "r"}); err != nil {
		t.Fatal(err)
	}
	r, err := repotest.NewSet(t, func(o *datadir.Options) { o.Dir = data }).Get(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, "out")
	if report, err := export.Run(t.Context(), export.Options{Repository: r, Layout: adopt.LayoutBorgStore, Dir: dir}); err != nil || report.Linked.Items != 16 {
		t.Fatalf("got %+v, %v", report, err)
	}
	for key := range borgItems() {
		was, err := os.Stat(filepath.Join(source, key))
		is, isErr := os.Stat(filepath.Join(dir, key))
		if err := errors.Join(err, isErr); err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(was, is) || is.Mode() != 0o640 || !is.ModTime().Equal(at) {
			t.Errorf("%s: %v %v, want the file that was adopted", key, is.Mode(), is.ModTime())
		}
	}
}

// TestVykar: of the items of vykar the copies have the mode that its server gives its files, and the time at which they were stored.
func TestVykar(t *testing.T) {
	items := map[string]string{"config": "\x98\x03", "index": "i", "keys/repokey": "k", "packs/ab/ab" + sha("p")[2:]: strings.Repeat("p", 2000), "snapshots/" + sha("s"): "s"}
	a, top := newRepositoryOf(t, "vger", 1<<10, items)
	repotest.MustPut(t, a, "locks/00.json", "{}")
	repotest.MustPut(t, a, "sessions/a.json", "{}")
	dir := filepath.Join(top, "out")
	report, err := export.Run(t.Context(), export.Options{Repository: a.Repository(), Layout: adopt.LayoutVykar, Dir: dir})
	if err != nil || report.Linked.Items != 1 || report.Copied.Items != 4 || report.LeftOut != 2 || report.Problems != 0 {
		t.Errorf("got %+v, %v", report, err)
	}
	wantFiles(t, dir, items)
	entry, err := a.Repository().Entry("config")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "config")); err != nil || info.Mode() != 0o644 || !info.ModTime().Equal(entry.Item.Modified) {
		t.Errorf("got %v, %v; want 0644, %v", info, err, entry.Item.Modified)
	}
}

// TestDamage: what is damaged, missing, or has a name that the other server does not know is told and not exported; all else is.
func TestDamage(t *testing.T) {
	for _, copies := range []bool{false, true} {
		items := borgItems()
		a, top := newRepository(t, 0, items)
		r := a.Repository()
		spoil := func(key string, change func(path string) error) {
			repotest.MustPut(t, a, key, strings.Repeat(key, 100))
			paths := repotest.BlobPaths(t, filepath.Join(top, "data", "r"))
			for _, path := range paths {
				if body, err := os.ReadFile(path); err == nil && string(body) == strings.Repeat(key, 100) {
					if err := change(path); err != nil {
						t.Fatal(err)
					}
					return
				}
			}
			t.Fatalf("no file of %s", key)
		}
		want := map[string]bool{"packs/short": true, "packs/gone": true, "packs/known": true, "packs/x.tmp": true}
		spoil("packs/short", func(path string) error { return os.Truncate(path, 10) })
		spoil("packs/gone", os.Remove)
		flip := func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("X", 1100)), 0o600) }
		spoil("packs/known", flip)
		if entry, err := r.Entry("packs/known"); err != nil || !errors.Is(r.Verify(t.Context(), entry, nil), repo.ErrDamaged) {
			t.Fatalf("it is not damaged: %v", err)
		}
		repotest.MustPut(t, a, "packs/x.tmp", "x")
		if copies { // nobody reads what is linked
			spoil("packs/flipped", flip)
			want["packs/flipped"] = true
		}
		told := make(map[string]bool)
		report, err := export.Run(t.Context(), export.Options{
			Repository: r, Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "out"), Copy: copies,
			Problem: func(p transfer.Problem) { told[p.Key] = p.Why != "" },
		})
		if err != nil || report.Problems != int64(len(want)) || fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("copies %v: got %+v, %v, %v; want %v", copies, report, err, told, want)
		}
		wantFiles(t, filepath.Join(top, "out"), items)
	}
}

// TestRefused: what cannot be begun is told, and changes nothing.
func TestRefused(t *testing.T) {
	a, top := newRepository(t, 0, map[string]string{"config/id": "i"})
	full := filepath.Join(top, "full")
	if err := errors.Join(os.Mkdir(full, 0o700), os.WriteFile(filepath.Join(full, "x"), nil, 0o600), os.Mkdir(filepath.Join(top, "taken.partial"), 0o700),
		os.WriteFile(filepath.Join(top, "taken.partial", "x"), nil, 0o600), os.Mkdir(filepath.Join(top, "elsewhere"), 0o700),
		os.Symlink(filepath.Join(top, "elsewhere"), filepath.Join(top, "linked.partial"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ layout, dir, want string }{
		{"vger", filepath.Join(top, "out"), "unknown layout"},
		{adopt.LayoutVykar, filepath.Join(top, "out"), "one of borgstore"},
		{adopt.LayoutBorgStore, "out", "absolute"},
		{adopt.LayoutBorgStore, full, "not empty"},
		{adopt.LayoutBorgStore, filepath.Join(top, "taken"), "taken.partial is in the way"},
		{adopt.LayoutBorgStore, filepath.Join(top, "linked"), "linked.partial is in the way"},
		{adopt.LayoutBorgStore, filepath.Join(top, "none", "out"), "no such file"},
	} {
		outside := func() string {
			found := files(t, top)
			maps.DeleteFunc(found, func(path, _ string) bool { return strings.HasPrefix(path, "data/") }) // the server writes there meanwhile
			return fmt.Sprint(found)
		}
		before := outside()
		_, err := export.Run(t.Context(), export.Options{Repository: a.Repository(), Layout: c.layout, Dir: c.dir})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: got %v, want %s", c.layout, c.dir, err, c.want)
		}
		if outside() != before {
			t.Errorf("%s to %s has changed something", c.layout, c.dir)
		}
	}
}

// stoppingFS can be stopped at a call as Failing is, and makes a file system durable.
type stoppingFS struct{ *vfstest.Failing }

func (s stoppingFS) SyncFileSystem(name string) error {
	return vfs.OS().(vfs.FileSystemSyncer).SyncFileSystem(name)
}

// TestStopsAnywhere: wherever an export is stopped, there is either no directory, or all of it; and beginning again completes it.
func TestStopsAnywhere(t *testing.T) {
	items := map[string]string{"config/id": "i", "packs/ab/" + sha("1"): strings.Repeat("1", 2000), "packs/ab/" + sha("2"): strings.Repeat("2", 2000)}
	a, top := newRepository(t, 1<<10, items)
	for n := 1; ; n++ {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			dir := filepath.Join(top, fmt.Sprintf("out%d-%d", n, when))
			o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: dir}
			failing := vfstest.NewFailing(vfs.OS())
			failing.StopAt(n, when, syscall.EIO)
			stopped := o
			stopped.FS = stoppingFS{failing}
			_, err := export.Run(t.Context(), stopped)
			if !failing.Hit() {
				if err != nil || n < 8 {
					t.Errorf("%d calls, %v", n-1, err)
				}
				return
			}
			if err == nil {
				t.Errorf("call %d: no error", n)
			}
			if _, err := os.Stat(dir); err == nil {
				wantFiles(t, dir, items)
				continue
			}
			if _, err := export.Run(t.Context(), o); err != nil {
				t.Errorf("after call %d, %v: %v", n, when, err)
			}
			wantFiles(t, dir, items)
			wantNone(t, dir+".partial")
		}
	}
}

// TestWhileClientsWork: an export has one state, whatever happens meanwhile; and ends with who has asked for it.
func TestWhileClientsWork(t *testing.T) {
	items := borgItems()
	a, top := newRepository(t, 1<<10, items)
	changed := false
	o := export.Options{Repository: a.Repository(), Layout: adopt.LayoutBorgStore, Dir: filepath.Join(top, "out"), Copy: true}
	o.FS = hookFS{vfs.OS(), func() {
		if changed {
			return
		}
		changed = true
		other := export.Options{Repository: o.Repository, Layout: o.Layout, Dir: o.Dir}
		if _, err := export.Run(context.Background(), other); !errors.Is(err, repo.ErrBusy) || !strings.Contains(err.Error(), "another export") {
			t.Errorf("two into one directory: %v", err)
		}
		other.Dir += "-other"
		if _, err := export.Run(context.Background(), other); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("two of one repository: %v", err)
		}
		for key := range items {
			if err := a.Delete(context.Background(), key); err != nil {
				t.Error(err)
			}
		}
		repotest.MustPut(t, a, "config/new", "new")
	}}
	if _, err := export.Run(t.Context(), o); err != nil || !changed {
		t.Fatal(changed, err)
	}
	wantFiles(t, o.Dir, items)

	ctx, cancel := context.WithCancel(t.Context())
	o.Dir += "2"
	o.FS = hookFS{vfs.OS(), cancel}
	if _, err := export.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantNone(t, o.Dir)
}

// hookFS calls a function when the tree is begun.
type hookFS struct {
	vfs.FS
	begun func()
}

func (h hookFS) Mkdir(name string) error {
	if filepath.Base(name) == "tree" {
		h.begun()
	}
	return h.FS.Mkdir(name)
}

func (h hookFS) SyncFileSystem(name string) error {
	return h.FS.(vfs.FileSystemSyncer).SyncFileSystem(name)
}
