package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"packhouse/repo/layout"
)

// Strangers are the names in a data directory that are no repository's and can become none, and not the server's own. A directory
// that does not exist has none.
func Strangers(data string) (names []string, err error) {
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []string
	byName := make(map[string]fs.DirEntry, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		byName[name] = entry
		if _, ok := NameOf(name); ok && name != layout.OwnDir {
			all = append(all, name)
		}
	}
	may := lookInto(data, entries, all, func(name string) bool {
		return isDir(data, byName[name]) && MayBecome(filepath.Join(data, name))
	})
	for _, entry := range entries {
		name := entry.Name()
		_, ok := NameOf(name)
		if answer, answered := may[name]; name != layout.OwnDir && (!ok || answered && !answer) {
			names = append(names, name)
		}
	}
	return names, nil
}

// AnyRepository tells whether a data directory has a repository on a disk that answers. One that does not exist has none.
func AnyRepository(data string) bool {
	entries, err := os.ReadDir(data)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	var names []string
	for _, entry := range entries {
		if _, ok := NameOf(entry.Name()); ok {
			names = append(names, entry.Name())
		}
	}
	for _, is := range lookInto(data, entries, names, func(name string) bool { return layout.HasIndex(filepath.Join(data, name)) }) {
		if is {
			return true
		}
	}
	return false
}

// lookInto calls fn for entries of a data directory. Those whose disk does not answer are missing in what is returned.
func lookInto(data string, entries []fs.DirEntry, names []string, fn func(name string) bool) map[string]bool {
	own, on := fileSystemsOf(data, entries)
	return answers(new(looks), silentAfter, own, names, func(name string) string { return on[name] }, fn)
}

// Absent are those of the names under which a data directory has nothing.
func Absent(data string, names []string) (missing []string) {
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return entry.Name() == layout.DirName(name) }) {
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
