//go:build e2e

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBorgWithoutRepository: what borg says over ssh of a directory without a repository, how soon, and what is left there, is
// the same as with borg's own server.
func TestBorgWithoutRepository(t *testing.T) {
	t.Parallel()
	program := newestBorg(t)
	for _, test := range []struct {
		name     string
		make     func(dir string) error
		commands []string
	}{
		{"missing", func(string) error { return nil }, []string{"repo-list", "repo-delete"}},
		{"empty", func(dir string) error { return os.Mkdir(dir, 0o700) }, []string{"repo-list", "repo-delete --force"}},
		{"foreign", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "data"), 0o700) }, []string{
			"repo-list", "repo-delete --force", "repo-create --encryption aes256-ocb",
		}},
		{"borg 1", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "config"), []byte("[repository]\nversion = 1\n"), 0o600)
		}, []string{"repo-list"}},
		{"deleted", func(string) error { return nil }, []string{"repo-create --encryption aes256-ocb", "repo-list", "repo-delete", "repo-list"}},
		{"deleted, of a directory that was there", func(dir string) error { return os.Mkdir(dir, 0o700) }, []string{
			"repo-create --encryption aes256-ocb", "repo-delete",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			codes, left := make(map[string][]int), make(map[string][]string)
			for _, server := range []string{"packhouse", program} {
				home := t.TempDir()
				if err := test.make(filepath.Join(home, "repository")); err != nil {
					t.Fatal(err)
				}
				b := overShellOf(t, program, home, "")
				b.env = append(b.env, "BORG_REMOTE_PATH="+server, "BORG_EXIT_CODES=modern", "PACKHOUSE_HOLD_IDLE=60s")
				for _, command := range test.commands {
					out, code := b.try(strings.Fields(command)...)
					codes[server] = append(codes[server], code)
					if strings.Contains(out, "connection lost") { // it waits 15 seconds then
						t.Errorf("%s: %s tries again:\n%s", server, command, out)
					}
				}
				left[server] = below(t, home)
			}
			if !slices.Equal(codes["packhouse"], codes[program]) {
				t.Errorf("exit codes of %q: got %v, want %v", test.commands, codes["packhouse"], codes[program])
			}
			if !slices.Equal(left["packhouse"], left[program]) {
				t.Errorf("left: got %q, want %q", left["packhouse"], left[program])
			}
		})
	}
}

// below are the paths of all that lies in a directory.
func below(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
