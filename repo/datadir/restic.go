package datadir

import (
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"packhouse/repo/layout"
)

// resticDirs are the directories of each repository of rest-server, and of restic's local backend. Source: restic-rest 1.1.
var resticDirs = []string{"data", "index", "keys", "locks", "snapshots"}

// ResticIn are the repositories of rest-server in a directory that it serves, as far as its disks answer: "" for one at its top, "alice",
// "alice/laptop". Ours are none, whatever their names.
func ResticIn(data string) (names []string) {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil
	}
	var all []string
	byName := make(map[string]os.DirEntry, len(entries))
	for _, entry := range entries {
		if name := entry.Name(); name != layout.OwnDir {
			all, byName[name] = append(all, name), entry
		}
	}
	own, on := fileSystemsOf(data, entries)
	ours := make(map[string]bool)
	var mu sync.Mutex // of ours
	found := answers(new(looks), silentAfter, own, all, func(name string) string { return on[name] }, func(name string) []string {
		dir := filepath.Join(data, name)
		if !isDir(data, byName[name]) {
			return nil
		}
		if layout.HasIndex(dir) {
			mu.Lock()
			defer mu.Unlock()
			ours[name] = true
			return nil
		}
		return resticBelow(dir, name)
	})
	mu.Lock()
	defer mu.Unlock()
	if isRestic(entries) && !ours[resticDirs[0]] {
		names = append(names, "")
	}
	for _, below := range found {
		names = append(names, below...)
	}
	sort.Strings(names)
	return names
}

// resticBelow are those at and directly below a directory of the given name.
func resticBelow(dir, name string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	if isRestic(entries) {
		names = append(names, name)
	}
	for _, entry := range entries {
		if slices.Contains(resticDirs, entry.Name()) || !isDir(dir, entry) {
			continue
		}
		if below, err := os.ReadDir(filepath.Join(dir, entry.Name())); err == nil && isRestic(below) {
			names = append(names, name+"/"+entry.Name())
		}
	}
	return names
}

// isRestic tells whether a directory with these entries is a repository of rest-server.
func isRestic(entries []os.DirEntry) bool {
	there := 0
	for _, entry := range entries {
		if slices.Contains(resticDirs, entry.Name()) && entry.IsDir() {
			there++
		}
	}
	return there == len(resticDirs)
}
