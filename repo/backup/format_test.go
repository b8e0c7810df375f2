package backup_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"packhouse/repo"
	"packhouse/repo/backup"
	"packhouse/repo/repotest"
)

var update = flag.Bool("update", false, "make the backup of the newest format in testdata anew")

// goldenItems are what the backups in testdata have.
func goldenItems() map[string]string {
	return map[string]string{"config/id": "0123", "packs/large": strings.Repeat("large ", 400), "packs/ü <&>": "small"}
}

// TestFormats: a backup of each format that there was is restored.
func TestFormats(t *testing.T) {
	if *update {
		updateGolden(t)
	}
	for _, dir := range []string{"format1"} {
		w := &world{t: t, top: repotest.MemoryDir(t)}
		if err := os.CopyFS(w.path("dest"), os.DirFS(filepath.Join("testdata", dir))); err != nil {
			t.Fatal(err)
		}
		again := w.restore("data", 1)
		r := again.Repository()
		u := r.Usage()
		if u.Items != 4 || u.MissingItems != 1 || u.Limit != 1<<30 || u.LastBackup.IsZero() {
			t.Errorf("%s: got %+v", dir, u)
		}
		if err := again.Delete(t.Context(), "packs/missing"); err != nil {
			t.Fatal(err)
		}
		wantContents(t, again, goldenItems())
		if _, err := r.Entry("cache/empty"); err != nil {
			t.Errorf("a directory: %v", err)
		}
		w.a = again
		o := w.options()
		o.TakeOver = true
		if report := w.backup(o, 0); report.Linked.Items+report.Copied.Items > 0 || report.Kept.Items < 3 {
			t.Errorf("%s: brought up to date: got %+v", dir, report)
		}
	}
}

func updateGolden(t *testing.T) {
	w := newWorld(t, goldenItems())
	ctx := t.Context()
	r := w.a.Repository()
	lost := strings.Repeat("missing", 300)
	if _, err := w.a.Put(ctx, repo.PutRequest{Key: "packs/missing", Body: strings.NewReader(lost), Size: int64(len(lost)), Backup: true}); err != nil {
		t.Fatal(err)
	}
	repotest.MustPut(t, w.a, "packs/removed", "removed")
	w.spoil("packs/missing", os.Remove)
	if err := errors.Join(w.a.MakeDir(ctx, "cache/empty"), w.a.Delete(ctx, "packs/removed"), r.SetQuota(ctx, 1<<30)); err != nil {
		t.Fatal(err)
	}
	w.backup(w.options(), 1)
	target := filepath.Join("testdata", "format1")
	if err := errors.Join(os.RemoveAll(target), os.Remove(w.path("dest/lock")), os.CopyFS(target, os.DirFS(w.path("dest")))); err != nil {
		t.Fatal(err)
	}
}

// TestExpiredTrash: what was in the trash and has expired since is restored as expired, and goes.
func TestExpiredTrash(t *testing.T) {
	w := newWorld(t, map[string]string{"packs/a": "a", "packs/b": "b"})
	if err := w.a.Delete(t.Context(), "packs/b"); err != nil {
		t.Fatal(err)
	}
	w.backup(w.options(), 0)
	into := w.path("other")
	if err := os.Mkdir(into, 0o700); err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(48 * time.Hour) }
	v, err := backup.Restore(t.Context(), backup.RestoreOptions{Source: w.path("dest"), Into: into, Name: "again", Small: small, Now: later})
	if err != nil || v.Trash.Items != 1 {
		t.Fatalf("got %+v, %v", v, err)
	}
	wantContents(t, w.open(into), map[string]string{"packs/a": "a"})
}

// FuzzList: whatever the list says, reading it neither fails in a way of its own nor reads what lies outside of the backup.
func FuzzList(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "format1", "items.jsonl.zst"))
	if err != nil {
		f.Fatal(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	text, err := decoder.DecodeAll(golden, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Add(bytes.ReplaceAll(text, []byte(`"format":1`), []byte(`"format":2`)))
	f.Add(bytes.ReplaceAll(text, []byte(`"blake3":"`), []byte(`"blake3":"../../`)))
	f.Add(bytes.ReplaceAll(text, []byte(`"size":`), []byte(`"size":-`)))
	f.Add(bytes.ReplaceAll(text, []byte(`"key":"packs/`), []byte(`"key":"packs/../`)))
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "backup.json"), []byte(`{"format":1,"repository":"x"}`), 0o600),
			os.WriteFile(filepath.Join(dir, "items.jsonl.zst"), encoder.EncodeAll(text, nil), 0o600)); err != nil {
			t.Fatal(err)
		}
		v, err := backup.Verify(t.Context(), backup.VerifyOptions{Dir: dir})
		if err == nil && v.Items.Items+v.Trash.Items > 0 {
			t.Errorf("got %+v of no files", v)
		}
	})
}
