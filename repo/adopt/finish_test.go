package adopt_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/repo/adopt"
)

// TestFinishRestic: of the directory of rest-server nothing is left, neither the directories that had no files; a repository in it stays.
func TestFinishRestic(t *testing.T) {
	for _, nested := range []bool{false, true} {
		top := t.TempDir()
		source, data := filepath.Join(top, "restic"), filepath.Join(top, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, dir := range adopt.Directories(adopt.LayoutRestic) {
			if err := os.MkdirAll(filepath.Join(source, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		files := tree{"config": "config", "keys/" + sha("key"): "key", adopt.Path(adopt.LayoutRestic, "data/"+sha("pack")): "pack"}
		inner := "laptop/keys/" + strings.Repeat("ab", 32)
		if nested {
			files[inner] = "of another"
		}
		files.write(t, source)
		o := adopt.Options{Source: source, Into: data, Name: "r"}
		if _, err := adopt.Run(ctx, o); err != nil {
			t.Fatal(err)
		}
		done, err := adopt.Finish(ctx, o)
		if err != nil || done.Files != 3 || done.Left != nested {
			t.Errorf("with another in it: %v: got %+v, %v", nested, done, err)
		}
		_, err = os.Stat(source)
		if gone := errors.Is(err, fs.ErrNotExist); gone == nested {
			t.Errorf("with another in it: %v: got %v", nested, err)
		}
		if !nested {
			continue
		}
		entries, err := os.ReadDir(source)
		if err != nil || len(entries) != 1 || entries[0].Name() != "laptop" {
			t.Errorf("left: %v, %v", entries, err)
		}
		if _, err := os.Stat(filepath.Join(source, inner)); err != nil {
			t.Error(err)
		}
	}
}
