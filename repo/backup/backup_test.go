package backup_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/backup"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
	"packhouse/repo/transfer"
)

func sha(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// borgItems are what borg stores, with items of a few bytes and larger ones.
func borgItems() map[string]string {
	items := map[string]string{"config/manifest": "manifest", "config/id": "0123", "archives/" + sha("a"): "", "keys/" + sha("key"): "key"}
	for i := range 8 {
		body := strings.Repeat(fmt.Sprintf("pack %d ", i), 1+300*i)
		items["packs/"+sha(body)[:2]+"/"+sha(body)] = body
	}
	return items
}

// small is the most bytes of an item in the log, in these tests.
const small = 1 << 10

// world is a data directory with the repository "r", beside which backups can be made.
type world struct {
	t   testing.TB
	top string
	set *datadir.Set
	a   *repo.Access
}

func newWorld(t testing.TB, items map[string]string) *world {
	t.Helper()
	w := &world{t: t, top: repotest.MemoryDir(t)}
	w.set = repotest.NewSet(t, func(o *datadir.Options) {
		o.Dir, o.Small, o.TableMemory = w.path("data"), small, 1000
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r, err := w.set.Create(t.Context(), "r", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	w.a = r.As(repo.Principal{Name: "tester"})
	w.put(items)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.top, name) }

func (w *world) put(items map[string]string) {
	w.t.Helper()
	for key, body := range items {
		repotest.MustPut(w.t, w.a, key, body)
	}
}

func (w *world) options() backup.Options {
	return backup.Options{Repository: w.a.Repository(), Dir: w.path("dest")}
}

// backup makes a backup, and wants so many problems to be told.
func (w *world) backup(o backup.Options, problems int) backup.Report {
	w.t.Helper()
	var told []transfer.Problem
	o.Problem = func(p transfer.Problem) { told = append(told, p) }
	report, err := backup.Run(w.t.Context(), o)
	if err != nil || len(told) != problems {
		w.t.Fatalf("backup: got %+v, %v, %v; want %d problems", report, told, err, problems)
	}
	return report
}

// restore makes a repository of the backup in another data directory.
func (w *world) restore(name string, problems int) *repo.Access {
	w.t.Helper()
	into := w.path(name)
	if err := os.Mkdir(into, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		w.t.Fatal(err)
	}
	var told []transfer.Problem
	v, err := backup.Restore(w.t.Context(), backup.RestoreOptions{
		Source: w.path("dest"), Into: into, Name: "again", Small: small, Problem: func(p transfer.Problem) { told = append(told, p) },
	})
	if err != nil || int(v.Problems) != problems || len(told) != problems {
		w.t.Fatalf("restore: got %+v, %v, %v; want %d problems", v, told, err, problems)
	}
	return w.open(into)
}

func (w *world) open(into string) *repo.Access {
	w.t.Helper()
	set := repotest.NewSet(w.t, func(o *datadir.Options) {
		o.Dir, o.Small = into, small
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: time.Hour} }
	})
	r, err := set.Get(w.t.Context(), "again")
	if err != nil {
		w.t.Fatal(err)
	}
	return r.As(repo.Principal{Name: "tester"})
}

// rows are all that a repository has, but for what is different in each.
func rows(t testing.TB, r *repo.Repository) []string {
	t.Helper()
	var all []string
	row := func(key string, i index.Item) string {
		return fmt.Sprintf("%s %d %v %v %x %s %x %s %d", key, i.Size, i.Created.UnixMilli(), i.Modified.UnixMilli(), i.BLAKE3, i.Algorithm, i.Sum, i.Writer, i.Flags)
	}
	err := r.As(repo.Principal{}).Each(t.Context(), index.ListOptions{Recursive: true, Dirs: true}, func(e index.Entry) error {
		if e.Dir {
			all = append(all, fmt.Sprintf("%s/ %v", e.Key, e.Item.Created.UnixMilli()))
		} else if !strings.HasPrefix(e.Key, "locks/") {
			all = append(all, row(e.Key, e.Item))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range repotest.Trash(t, r) {
		all = append(all, fmt.Sprintf("trash %s %d %x %v %v", row.Key, row.Item.Size, row.Item.BLAKE3, row.At.UnixMilli(), row.Expires.UnixMilli()))
	}
	return all
}

func want(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wantContents wants a repository to have these items, and all of their bytes.
func wantContents(t testing.TB, a *repo.Access, items map[string]string) {
	t.Helper()
	got := repotest.Contents(t, a)
	for key := range got {
		if strings.HasPrefix(key, "locks/") {
			delete(got, key)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(items) {
		t.Errorf("got %.400v\nwant %.400v", got, items)
	}
}

// TestFidelity: what is restored has all items, directories and what can be restored from the trash, with times, sums, writers and flags, and the
// repository's limits and last backups; it has an ID of its own. In the log or in files, by links or by copies.
func TestFidelity(t *testing.T) {
	for _, copies := range []bool{false, true} {
		t.Run(fmt.Sprint("copies ", copies), func(t *testing.T) {
			items := borgItems()
			w := newWorld(t, items)
			r := w.a.Repository()
			ctx := t.Context()
			repotest.MustPut(t, w.a, "locks/"+sha("lock"), "lock")
			body := strings.Repeat("backup", 500)
			other := r.As(repo.Principal{Name: "other"})
			if _, err := other.Put(ctx, repo.PutRequest{Key: "archives/" + sha(body), Body: strings.NewReader(body), Size: int64(len(body)), Backup: true}); err != nil {
				t.Fatal(err)
			}
			items["archives/"+sha(body)] = body
			for _, key := range []string{"packs/gone/large", "packs/gone/small"} {
				repotest.MustPut(t, w.a, key, strings.Repeat(key, 1+100*strings.Count(key, "large")))
				if err := w.a.Delete(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(w.a.MakeDir(ctx, "cache/deep/er"), w.a.RemoveDir(ctx, "packs/gone"), r.SetQuota(ctx, 1<<30), r.SetTrashQuota(ctx, 1<<29)); err != nil {
				t.Fatal(err)
			}
			o := w.options()
			o.Copy = copies
			foreseen, err := backup.Look(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a look has made something: %v", err)
			}
			report := w.backup(o, 0)
			if report.Linked.Items > 0 == copies || report.Linked.Items+report.Copied.Items+report.Kept.Items != int64(len(items)+2) || report.LeftOut != 1 || report.Trash.Items != 2 {
				t.Errorf("got %+v", report)
			}
			if foreseen.At = report.At; foreseen != report {
				t.Errorf("foreseen %+v, done %+v", foreseen, report)
			}
			again := w.restore("other", 0)
			wantContents(t, again, items)
			want(t, "rows", rows(t, again.Repository()), rows(t, r))
			u, was := again.Repository().Usage(), r.Usage()
			if u.Limit != was.Limit || u.TrashLimit != was.TrashLimit || u.Limit != 1<<30 || u.Used != was.Used {
				t.Errorf("usage: got %+v, want %+v", u, was)
			}
			if u.LastBackup.IsZero() || !u.LastBackup.Equal(was.LastBackup) {
				t.Errorf("last backup: got %v, want %v", u.LastBackup, was.LastBackup)
			}
			if again.Repository().ID() == r.ID() || !again.Repository().Created().Equal(r.Created()) {
				t.Errorf("ID %s, created %v; it was %s, %v", again.Repository().ID(), again.Repository().Created(), r.ID(), r.Created())
			}
			if c := again.Repository().Coverage(); c.Items != int64(len(items)) {
				t.Errorf("coverage: %+v", c)
			}
			if was, is := len(repotest.BlobPaths(t, w.path("data/r"))), len(repotest.BlobPaths(t, w.path("other/again"))); is != was {
				t.Errorf("%d blobs in files, want %d, and the others in the log", is, was)
			}
			for _, row := range repotest.Trash(t, again.Repository()) {
				if _, err := again.Repository().Restore(ctx, row.ID, ""); err != nil {
					t.Errorf("restore %s from the trash: %v", row.Key, err)
				}
			}
			repotest.WantContent(t, again, "packs/gone/large", strings.Repeat("packs/gone/large", 101))
		})
	}
}

// TestIncremental: a second backup transfers what is new, also where an item has another key, and removes what is gone; what stays is the same file.
func TestIncremental(t *testing.T) {
	items := borgItems()
	w := newWorld(t, items)
	o := w.options()
	w.backup(o, 0)
	before := destFiles(t, o.Dir)
	report := w.backup(o, 0)
	if report.Linked.Items+report.Copied.Items+report.Removed.Items != 0 || report.Kept.Items != int64(len(items)) {
		t.Errorf("nothing has changed: got %+v", report)
	}
	want(t, "files", destFiles(t, o.Dir), before)

	ctx := t.Context()
	r := w.a.Repository()
	large := strings.Repeat("new ", 1000)
	w.put(map[string]string{"packs/new": large, "packs/little": "little", "packs/same": large})
	items["packs/new"], items["packs/little"], items["packs/same"] = large, "little", large
	if err := errors.Join(w.a.Move(ctx, "config/id", "config/moved"), w.a.Delete(ctx, "config/manifest")); err != nil {
		t.Fatal(err)
	}
	items["config/moved"] = items["config/id"]
	delete(items, "config/id")
	delete(items, "config/manifest")
	if _, err := r.EmptyTrash(ctx, time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	report = w.backup(o, 0)
	if report.Linked.Items != 1 || report.Copied.Items != 1 || report.Removed.Items != 1 || report.Kept.Items != int64(len(items)-2) {
		t.Errorf("got %+v", report)
	}
	wantContents(t, w.restore("other", 0), items)
	if got := destFiles(t, o.Dir); len(got) != len(before)+1 {
		t.Errorf("files: got %d, there were %d", len(got), len(before))
	}
	wantNoRest(t, o.Dir)
}

// destFiles are the files of a backup, with their inodes.
func destFiles(t testing.TB, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "files"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(path, &st)
		all = append(all, fmt.Sprintf("%s %d", entry.Name(), st.Ino))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantNoRest wants nothing beside what a complete backup has.
func wantNoRest(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains([]string{"backup.json", "files", "items.jsonl.zst", "lock"}, entry.Name()) {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

// spoil changes the blob of an item that is a file.
func (w *world) spoil(key string, change func(path string) error) {
	w.t.Helper()
	body, err := repotest.Get(w.a, key)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range repotest.BlobPaths(w.t, w.path("data/r")) {
		if b, err := os.ReadFile(path); err == nil && string(b) == body {
			if err := change(path); err != nil {
				w.t.Fatal(err)
			}
			return
		}
	}
	w.t.Fatalf("no file of %s", key)
}

// flip replaces a file by one of the same size with other bytes, so that another name of it stays as it was.
func flip(path string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	body[len(body)/2] ^= 1
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, body, 0o600)
}

// TestDamage: an item that is damaged or missing is told, and restored as missing, which its client mends; where the backup has it from before, it
// stays, and is restored whole.
func TestDamage(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	r := w.a.Repository()
	body := func(key string) string { return strings.Repeat(key, 500) }
	items := make(map[string]string)
	for _, key := range []string{"packs/had", "packs/lost"} {
		items[key] = body(key)
	}
	w.put(items)
	o := w.options()
	o.Copy = true
	w.backup(o, 0)
	for _, key := range []string{"packs/flipped", "packs/gone", "packs/known", "packs/short"} {
		items[key] = body(key)
		repotest.MustPut(t, w.a, key, items[key])
	}
	w.spoil("packs/had", flip)
	w.spoil("packs/lost", os.Remove)
	w.spoil("packs/flipped", flip)
	w.spoil("packs/gone", os.Remove)
	w.spoil("packs/known", flip)
	w.spoil("packs/short", func(path string) error { return os.Truncate(path, 10) })
	for _, key := range []string{"packs/had", "packs/known"} {
		if entry, err := r.Entry(key); err != nil || !errors.Is(r.Verify(ctx, entry, nil), repo.ErrDamaged) {
			t.Fatalf("%s is not damaged: %v", key, err)
		}
	}
	report := w.backup(o, 5)
	if report.Problems != 4 || report.Saved != 1 {
		t.Errorf("got %+v; want four items that are not in it, and one that is damaged and in it", report)
	}
	again := w.restore("other", 4)
	for _, key := range []string{"packs/had", "packs/lost"} {
		repotest.WantContent(t, again, key, items[key])
	}
	if u := again.Repository().Usage(); u.MissingItems != 4 {
		t.Errorf("got %+v, want four items missing", u)
	}
	backupOf := again.Repository().As(repo.Principal{Name: "client"})
	for key, body := range items {
		if _, err := repotest.Put(backupOf, key, body); err != nil {
			t.Errorf("mend %s: %v", key, err)
		}
	}
	wantContents(t, again, items)
	if v, err := backup.Verify(ctx, backup.VerifyOptions{Dir: o.Dir}); err != nil || v.Problems != 4 || v.Items.Items != 2 {
		t.Errorf("verify: got %+v, %v", v, err)
	}
}

// TestWrongSize: a file of the backup that is shorter than its item is not taken for it, and replaced.
func TestWrongSize(t *testing.T) {
	for _, copies := range []bool{true, false} {
		items := borgItems()
		w := newWorld(t, items)
		o := w.options()
		o.Copy = copies
		w.backup(o, 0)
		short := 0
		for _, file := range destFiles(t, o.Dir) {
			name, _, _ := strings.Cut(file, " ")
			path := filepath.Join(o.Dir, "files", name[:2], name)
			body, err := os.ReadFile(path)
			if err != nil || len(body) < 2 || short == 5 {
				continue
			}
			if err := errors.Join(os.Remove(path), os.WriteFile(path, body[:1], 0o600)); err != nil {
				t.Fatal(err)
			}
			short++
		}
		if report := w.backup(o, 0); report.Copied.Items+report.Linked.Items != 5 || report.Linked.Items > 0 == copies {
			t.Errorf("got %+v, want five items that are transferred again", report)
		}
		wantContents(t, w.restore("other", 0), items)
	}
}

// damage changes a byte of a blob in place, and lets the repository find that.
func (w *world) damage(key string) {
	w.t.Helper()
	w.spoil(key, func(path string) error {
		body, err := os.ReadFile(path)
		if err == nil {
			body[0] ^= 1
			err = os.WriteFile(path, body, 0o600)
		}
		return err
	})
	entry, err := w.a.Repository().Entry(key)
	if err == nil {
		err = w.a.Repository().Verify(w.t.Context(), entry, nil)
	}
	if !errors.Is(err, repo.ErrDamaged) {
		w.t.Fatalf("%s is not damaged: %v", key, err)
	}
}

// TestLinkedDamage: what the backup has of a damaged item is not taken for its bytes where it is the same file; once the item was mended, it is transferred again.
func TestLinkedDamage(t *testing.T) {
	items := fewItems()
	w := newWorld(t, items)
	o := w.options()
	w.backup(o, 0)
	w.damage("packs/1")
	foreseen, err := backup.Look(t.Context(), o)
	if err != nil || foreseen.Problems != 1 || foreseen.Saved != 0 {
		t.Errorf("look: got %+v, %v", foreseen, err)
	}
	if report := w.backup(o, 1); report.Problems != 1 || report.Saved != 0 {
		t.Errorf("got %+v", report)
	}
	again := w.restore("other", 1)
	if u := again.Repository().Usage(); u.MissingItems != 1 {
		t.Errorf("got %+v", u)
	}
	repotest.MustPut(t, w.a, "packs/1", items["packs/1"])
	if report := w.backup(o, 0); report.Copied.Items != 1 {
		t.Errorf("mended: got %+v", report)
	}
	wantContents(t, w.restore("third", 0), items)
	wantNoRest(t, o.Dir)
}

// TestSameBytes: of two items with the same bytes, one of which is damaged, the backup has the bytes of the other one.
func TestSameBytes(t *testing.T) {
	for _, damaged := range []int{0, 1} {
		body := strings.Repeat("same", 500)
		items := map[string]string{"packs/a": body, "packs/b": body}
		w := newWorld(t, nil)
		repotest.MustPut(t, w.a, "packs/a", body)
		first := repotest.BlobPaths(t, w.path("data/r"))
		repotest.MustPut(t, w.a, "packs/b", body)
		path := first[0]
		if damaged == 1 {
			path = slices.DeleteFunc(repotest.BlobPaths(t, w.path("data/r")), func(path string) bool { return path == first[0] })[0]
		}
		if err := flip(path); err != nil {
			t.Fatal(err)
		}
		o := w.options()
		o.Copy = true
		if report := w.backup(o, 1-damaged); report.Problems != 0 || report.Saved != int64(1-damaged) {
			t.Errorf("got %+v", report)
		}
		wantContents(t, w.restore("other", 0), items)
	}
}

// TestCompactionUnderWay: the sources of a compaction that its client has not finished come back as items that limits do not count.
func TestCompactionUnderWay(t *testing.T) {
	w := &world{t: t, top: repotest.MemoryDir(t)}
	item := func(key, body string) index.Put {
		return index.Put{Key: key, Payload: []byte(body), Item: index.Item{Size: int64(len(body)), BLAKE3: blake3.Sum256([]byte(body))}, Limit: -1, Now: time.Now()}
	}
	repotest.Seed(t, datadir.Options{Dir: w.path("data")}, "r", "borgstore", slices.Values([][]index.Mutation{
		{item("packs/source", "source"), item("packs/output", "output")},
		{index.OpenPlan{Plan: index.Plan{At: time.Now()}, Sources: []string{"packs/source"}, Limit: -1}},
	}))
	r, err := repotest.NewSet(t, func(o *datadir.Options) { o.Dir = w.path("data") }).Get(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	w.a = r.As(repo.Principal{Name: "tester"})
	w.backup(w.options(), 0)
	again := w.restore("other", 0)
	was, is := r.Usage(), again.Repository().Usage()
	if is.Used != was.Used || is.Used != int64(len("output")) || is.ReturnedBytes != was.OpenBytes || is.Items != 2 {
		t.Errorf("got %+v, it was %+v", is, was)
	}
}

// TestVerify: a file of the backup with a wrong byte is found, set aside, and transferred again, not linked to the blob that may be damaged, too; so is one that is missing, and a list that is damaged.
func TestVerify(t *testing.T) {
	for _, copies := range []bool{true, false} {
		items := borgItems()
		w := newWorld(t, items)
		o := w.options()
		o.Copy = copies
		w.backup(o, 0)
		all := destFiles(t, o.Dir)
		path := func(n int) string {
			name, _, _ := strings.Cut(all[n], " ")
			return filepath.Join(o.Dir, "files", name[:2], name)
		}
		n := slices.IndexFunc(all, func(s string) bool {
			name, _, _ := strings.Cut(s, " ")
			info, err := os.Stat(filepath.Join(o.Dir, "files", name[:2], name))
			return err == nil && info.Size() > small
		})
		if err := errors.Join(flip(path(n)), os.Remove(path((n+1)%len(all)))); err != nil {
			t.Fatal(err)
		}
		v, err := backup.Verify(t.Context(), backup.VerifyOptions{Dir: o.Dir})
		if err != nil || v.Problems != 2 || v.Items.Items != int64(len(items)-2) {
			t.Errorf("verify: got %+v, %v", v, err)
		}
		if l, err := backup.LookRestore(t.Context(), backup.RestoreOptions{Source: o.Dir, Into: w.top, Name: "x"}); err != nil || l.Problems != 1 {
			t.Errorf("look: got %+v, %v; want the one that is not there", l, err)
		}
		o.Verify = true
		report := w.backup(o, 1)
		if report.Damaged != 1 || report.Copied.Items+report.Linked.Items != 2 || report.Copied.Items == 0 {
			t.Errorf("backup with verify: got %+v", report)
		}
		if report = w.backup(o, 0); report.Damaged != 0 {
			t.Errorf("again: got %+v", report)
		}
		wantNoRest(t, o.Dir)
		list := filepath.Join(o.Dir, "items.jsonl.zst")
		for _, spoil := range []func(b []byte) []byte{func(b []byte) []byte { return b[:len(b)/2] }, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, func([]byte) []byte { return nil }} {
			b, err := os.ReadFile(list)
			if err == nil {
				err = os.WriteFile(list, spoil(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := backup.Verify(t.Context(), backup.VerifyOptions{Dir: o.Dir}); !errors.Is(err, backup.ErrList) {
				t.Errorf("verify: got %v", err)
			}
			if report = w.backup(o, 1); report.Damaged != 1 || report.Kept.Items != int64(len(items)) {
				t.Errorf("backup with a damaged list: got %+v", report)
			}
		}
		wantContents(t, w.restore("other", 0), items)
	}
}

// TestVerifyLinked: a wrong byte of a file that is the blob, too, is found in the backup, and the blob is not linked again, but told.
func TestVerifyLinked(t *testing.T) {
	items := borgItems()
	w := newWorld(t, items)
	key := "packs/large"
	repotest.MustPut(t, w.a, key, strings.Repeat("large", 1000))
	o := w.options()
	w.backup(o, 0)
	w.spoil(key, func(path string) error {
		body, err := os.ReadFile(path)
		if err == nil {
			body[0] ^= 1
			err = os.WriteFile(path, body, 0o600)
		}
		return err
	})
	o.Verify = true
	if report := w.backup(o, 2); report.Damaged != 1 || report.Problems != 1 {
		t.Errorf("got %+v", report)
	}
	again := w.restore("other", 1)
	if u := again.Repository().Usage(); u.MissingItems != 1 {
		t.Errorf("got %+v", u)
	}
	// Its client stores it again, and then the backup has it.
	if _, err := repotest.Put(w.a, key, strings.Repeat("large", 1000)); err != nil {
		t.Fatal(err)
	}
	o.Verify = false
	if report := w.backup(o, 0); report.Copied.Items != 1 {
		t.Errorf("got %+v", report)
	}
	items[key] = strings.Repeat("large", 1000)
	wantContents(t, w.restore("third", 0), items)
	wantNoRest(t, o.Dir)
}

// TestRestoreDamaged: what the backup has a wrong byte of, or nothing, is told, and in the repository as missing; also what cannot be read.
func TestRestoreDamaged(t *testing.T) {
	items := borgItems()
	w := newWorld(t, items)
	o := w.options()
	o.Copy = true
	w.backup(o, 0)
	all := destFiles(t, o.Dir)
	paths := make([]string, 0, len(all))
	for _, file := range all {
		name, _, _ := strings.Cut(file, " ")
		if path := filepath.Join(o.Dir, "files", name[:2], name); name != emptyHash {
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return int(size(t, a) - size(t, b)) })
	last := len(paths) - 1
	if err := errors.Join(flip(paths[0]), flip(paths[last]), os.Remove(paths[1]), os.Remove(paths[last-1]), os.Mkdir(paths[last-1], 0o700)); err != nil {
		t.Fatal(err)
	}
	again := w.restore("other", 4)
	if u := again.Repository().Usage(); u.MissingItems != 4 || u.Items != int64(len(items)) {
		t.Errorf("got %+v", u)
	}
	w.a = again
	w.put(items)
	wantContents(t, again, items)
}

// emptyHash is the BLAKE3 of nothing.
const emptyHash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestRefused: what cannot be begun is told, and changes nothing.
func TestRefused(t *testing.T) {
	w := newWorld(t, map[string]string{"config/id": "i"})
	ctx := t.Context()
	o := w.options()
	w.backup(o, 0)
	other, err := w.set.Create(ctx, "other", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(w.path("full/x"), 0o700), os.WriteFile(w.path("file"), nil, 0o600), os.Mkdir(w.path("newer"), 0o700), os.Mkdir(w.path("wrong"), 0o700),
		os.WriteFile(w.path("newer/backup.json"), []byte(`{"format":2,"repository":"x"}`), 0o600), os.WriteFile(w.path("wrong/backup.json"), []byte(`?`), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		r    *repo.Repository
		want string
	}{
		{"dest", w.a.Repository(), "absolute"},
		{w.path("full"), w.a.Repository(), "is no backup, and not empty (x)"},
		{w.path("file"), w.a.Repository(), "not a directory"},
		{w.path("none/dest"), w.a.Repository(), "no such file"},
		{w.path("newer"), w.a.Repository(), "format 2"},
		{w.path("wrong"), w.a.Repository(), "backup.json in the directory is not that of a backup"},
		{o.Dir, other, "backup of another repository (ID " + w.a.Repository().ID()},
	} {
		_, err := backup.Run(ctx, backup.Options{Repository: c.r, Dir: c.dir, TakeOver: true})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.dir, err, c.want)
		}
	}
	again := w.restore("data2", 0)
	mine := backup.Options{Repository: again.Repository(), Dir: o.Dir}
	if _, err := backup.Run(ctx, mine); !errors.Is(err, repo.ErrExists) || !strings.Contains(err.Error(), "--take-over") {
		t.Errorf("backup of what was restored: got %v", err)
	}
	mine.TakeOver = true
	if report, err := backup.Run(ctx, mine); err != nil || report.Kept.Items != 1 {
		t.Errorf("take over: got %+v, %v", report, err)
	}
	if _, err := backup.Run(ctx, o); !errors.Is(err, repo.ErrExists) {
		t.Errorf("the former owner: got %v", err)
	}
	for dir, want := range map[string]string{w.path("full"): "no backup of a repository", w.path("none"): "no backup of a repository", "dest": "absolute", w.path("newer"): "format 2"} {
		if _, err := backup.Verify(ctx, backup.VerifyOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("verify %s: got %v, want %s", dir, err, want)
		}
	}
	if err := os.Remove(filepath.Join(o.Dir, "items.jsonl.zst")); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Verify(ctx, backup.VerifyOptions{Dir: o.Dir}); err == nil || !strings.Contains(err.Error(), "no complete state") {
		t.Errorf("verify without a list: got %v", err)
	}
}

// TestWhileClientsWork: a backup has one state, whatever happens meanwhile; nobody else writes there, or reads; and it ends with who has asked for it.
func TestWhileClientsWork(t *testing.T) {
	items := borgItems()
	w := newWorld(t, items)
	o := w.options()
	changed := false
	o.FS = hookFS{vfs.OS(), func() {
		if changed {
			return
		}
		changed = true
		other := w.options()
		if _, err := backup.Run(context.Background(), other); !errors.Is(err, repo.ErrBusy) || !strings.Contains(err.Error(), "another command works on this backup") {
			t.Errorf("two into one directory: %v", err)
		}
		if _, err := backup.Verify(context.Background(), backup.VerifyOptions{Dir: o.Dir}); !errors.Is(err, repo.ErrBusy) {
			t.Errorf("verify meanwhile: %v", err)
		}
		other.Dir += "-other"
		if _, err := backup.Run(context.Background(), other); !errors.Is(err, repo.ErrBusy) || !strings.Contains(err.Error(), "backed up already") {
			t.Errorf("two of one repository: %v", err)
		}
		for key := range items {
			if err := w.a.Delete(context.Background(), key); err != nil {
				t.Error(err)
			}
		}
		repotest.MustPut(t, w.a, "config/new", "new")
	}}
	w.backup(o, 0)
	if !changed {
		t.Fatal("nothing was changed")
	}
	wantContents(t, w.restore("other", 0), items)

	ctx, cancel := context.WithCancel(t.Context())
	o.FS = hookFS{vfs.OS(), cancel}
	if _, err := backup.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantContents(t, w.restore("third", 0), items)
}

// hookFS calls a function when the directory of a shard is made, which is while items are transferred.
type hookFS struct {
	vfs.FS
	begun func()
}

func (h hookFS) Mkdir(name string) error {
	if filepath.Base(filepath.Dir(name)) == "files" {
		h.begun()
	}
	return h.FS.Mkdir(name)
}

func (h hookFS) SyncFileSystem(name string) error {
	return h.FS.(vfs.FileSystemSyncer).SyncFileSystem(name)
}

// TestAdopted: what was adopted and nobody has read is read once; of what is not what its name says, nothing is in the backup.
func TestAdopted(t *testing.T) {
	top := repotest.MemoryDir(t)
	w := &world{t: t, top: top}
	source, data := w.path("source"), w.path("data")
	items := borgItems()
	for key, body := range items {
		path := filepath.Join(source, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	wrong := "packs/" + sha("right")[:2] + "/" + sha("right")
	if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(source, wrong)), 0o755), os.WriteFile(filepath.Join(source, wrong), []byte("wrong"), 0o640), os.Mkdir(data, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: source, Into: data, Name: "r"}); err != nil {
		t.Fatal(err)
	}
	r, err := repotest.NewSet(t, func(o *datadir.Options) { o.Dir = data }).Get(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	w.a = r.As(repo.Principal{Name: "tester"})
	o := w.options()
	lost := repotest.BlobPaths(t, filepath.Join(data, "r"))
	for _, path := range lost {
		if body, err := os.ReadFile(path); err == nil && string(body) == "0123" { // config/id
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	var told []string
	o.Problem = func(p transfer.Problem) { told = append(told, p.Key+": "+p.Why) }
	report, err := backup.Run(t.Context(), o)
	if err != nil || report.Linked.Items != int64(len(items)-1) || report.Problems != 2 {
		t.Errorf("got %+v, %v", report, err)
	}
	want(t, "problems", told, []string{"config/id: its file is missing", wrong + ": its stored bytes are damaged"})
	repotest.MustPut(t, w.a, "config/id", "0123")
	w.backup(o, 1)
	// Nobody reads them again: they cannot be read.
	for _, path := range repotest.BlobPaths(t, filepath.Join(data, "r")) {
		if body, err := os.ReadFile(path); err != nil || len(body) == 0 || string(body) == "wrong" {
			continue
		}
		if err := flip(path); err != nil {
			t.Fatal(err)
		}
	}
	if report := w.backup(o, 1); report.Kept.Items != int64(len(items)) || report.Problems != 1 {
		t.Errorf("again: got %+v", report)
	}
	again := w.restore("other", 1)
	entry, err := again.Repository().Entry(wrong)
	if err != nil || entry.Item.Flags != index.FlagMissing|index.FlagUnverified {
		t.Errorf("got %+v, %v", entry, err)
	}
	if err := again.Delete(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	wantContents(t, again, items)
}
