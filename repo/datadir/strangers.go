package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"packhouse/repo/layout"
)

// Strangers are the names in a data directory that are no repository's and can become none, and not the server's own. A directory
// that does not exist has none.
func Strangers(data string) (names []string, err error) {
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		name := entry.Name()
		if name != layout.OwnDir && (CheckName(name) != nil || !isDir(data, entry) || !MayBecome(filepath.Join(data, name))) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Absent are those of the names under which a data directory has nothing.
func Absent(data string, names []string) (missing []string) {
	for _, name := range names {
		if absent(data, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// isDir tells whether an entry is a directory, or a symbolic link to one: a repository may lie elsewhere.
func isDir(data string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.IsDir()
	}
	info, err := os.Stat(filepath.Join(data, entry.Name()))
	return err == nil && info.IsDir()
}

// ResolveDir makes the path of a directory absolute and follows its symbolic links, as far as it exists: what is claimed, and held
// against CheckApart and other rules about where a directory may be.
func ResolveDir(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		// A link that leads nowhere now may lead anywhere later, past what was checked of the path.
		if _, linkErr := os.Lstat(path); linkErr == nil {
			return "", fmt.Errorf("%s is a symbolic link whose target does not exist", filepath.Base(path))
		}
		above, err := ResolveDir(filepath.Dir(path))
		return filepath.Join(above, filepath.Base(path)), err
	}
	return real, err
}
