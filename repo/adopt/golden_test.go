package adopt_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo/adopt"
)

// unpack makes the directory that an archive in testdata has, with modes and times, and returns its files.
func unpack(t *testing.T, archive, dir string) (files tree) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", archive+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files = make(tree)
	times := make(map[string]time.Time)
	for entries := tar.NewReader(packed); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(entry.Name))
		times[path] = entry.ModTime
		if entry.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			var body []byte
			if body, err = io.ReadAll(entries); err == nil {
				files[strings.TrimPrefix(entry.Name, "./")] = string(body)
				err = os.WriteFile(path, body, fs.FileMode(entry.Mode))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, at := range times {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestGolden: the directory of each generation of each server, as testdata/README.md says that it was made, becomes a repository with the items
// that it has, whose names are held against the digests that they are.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		archive   string
		below     string // of the archive: the directory of the repository
		layout    string
		skipped   []string
		algorithm string // of packs
		named     int    // items whose names are digests
		backup    string // the key of the newest begins so
	}{
		{archive: "borg-2.0.0b23", layout: "borgstore", algorithm: "sha256", named: 10, backup: "archives/", skipped: []string{"packs/0f/tmpk3v0x9q2.tmp", "quota.hid"}},
		{archive: "borg-2.0.0b25", layout: "borgstore", algorithm: "blake3", named: 10, backup: "archives/", skipped: []string{"packs/7e/tmpk3v0x9q2.tmp", "quota.hid"}},
		{archive: "vger-0.7.1", below: "laptop", layout: "vger", algorithm: "blake2b-256", named: 6, backup: "manifest", skipped: []string{".tmp.index.4", "packs/00/.repack_tmp.0"}},
		{archive: "vger-g2", below: "laptop", layout: "vger", algorithm: "blake2b-256", named: 4, backup: "manifest", skipped: []string{".tmp.index.4", "packs/00/.repack_tmp.0"}},
		{archive: "vger-0.10.2", layout: "vger", algorithm: "blake2b-256", named: 6, backup: "manifest", skipped: []string{".tmp.index.4", "packs/00/.repack_tmp.0"}},
		{archive: "vykar-0.19.1", layout: "vger", algorithm: "blake2b-256", named: 6, backup: "snapshots/", skipped: []string{"packs/00/.tmp.repack.0", "snapshots/.tmp.x.7"}},
		{archive: "rest-server-0.14.0", below: "laptop", layout: "restic", algorithm: "sha256", named: 9, backup: "snapshots/", skipped: []string{"data/00/" + strings.Repeat("ab", 32) + ".rest-server-temp4711"}},
		{archive: "vykar-g4", layout: "vger", algorithm: "blake3", named: 4, backup: "snapshots/", skipped: []string{"packs/00/.tmp.Ab3dE6gH9jK2mN5p"}},
	} {
		t.Run(c.archive, func(t *testing.T) {
			source, data := sides(t)
			files := unpack(t, c.archive, source)
			items := make(tree)
			source = filepath.Join(source, c.below)
			for name, body := range files {
				key, inside := strings.CutPrefix(name, strings.TrimPrefix(c.below+"/", "/"))
				if inside && !slices.Contains(c.skipped, key) {
					items[key] = body
				}
			}
			before := inodes(t, source)
			if got := adopt.Recognize(vfs.OS(), source); got != c.layout {
				t.Errorf("recognized: got %q, want %s", got, c.layout)
			}
			s := mustAdopt(t, options(source, data))
			if s.Layout != c.layout || s.Files != int64(len(items)) || s.Skipped != int64(len(c.skipped)) || !strings.HasPrefix(s.Newest, c.backup) {
				t.Errorf("survey: %+v, want %d items", s, len(items))
			}
			set, a := open(t, data)
			wantItems(t, a, source, items)
			named := 0
			for name := range items {
				key := adopt.Key(c.layout, name)
				entry, err := a.Repository().Entry(key)
				if err == nil {
					err = a.Repository().Verify(ctx, entry, nil)
				}
				if err != nil {
					t.Errorf("%s: %v", key, err)
				}
				if entry.Item.Algorithm != "" {
					if named++; entry.Item.Algorithm != c.algorithm {
						t.Errorf("%s: named by %s, want %s", key, entry.Item.Algorithm, c.algorithm)
					}
				}
			}
			if u := a.Repository().Usage(); named != c.named || u.UnverifiedItems != 0 || u.DamagedItems != 0 || u.LastBackup.IsZero() {
				t.Errorf("%d names are digests, want %d; usage %+v", named, c.named, u)
			}
			if err := set.Close(); err != nil {
				t.Fatal(err)
			}
			wantSame(t, "the source", inodes(t, source), before)
		})
	}
}
