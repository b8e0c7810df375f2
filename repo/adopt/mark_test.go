package adopt_test

import (
	"path/filepath"
	"strings"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/repo/adopt"
	"packhouse/repo/layout"
)

// TestMarkNamesTheCommand: the adoption of another directory under the same name is given up by the name of the repository, as a shell reads it.
func TestMarkNamesTheCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), layout.DirName("alice/mein büro"))
	if err := adopt.Mark(vfs.OS(), dir, "/srv/one"); err != nil {
		t.Fatal(err)
	}
	err := adopt.Mark(vfs.OS(), dir, "/srv/other")
	if want := "packhouse adopt --abandon 'alice/mein büro'"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}
