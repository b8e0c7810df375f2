package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"packhouse/blobstore/vfs"
)

// A foreign layout is how another server keeps its items in files.
type foreign interface {
	// names returns the name of the layout, and the dialect of its clients.
	names() (layout, dialect string)
	// file tells what a file is, by its path below the root with slashes. algorithm is that of the digest which the last part of
	// the path is in hexadecimal, "" if it is none. The error says why it can be no item.
	file(path string) (use use, algorithm string, err error)
	// key is that of the item which a file becomes, and path where the file of a key lies.
	key(path string) string
	path(key string) string
	// backup tells whether storing the file completed a backup.
	backup(path string) bool
	// current tells whether a lock or a session was touched a moment ago, so that a client, and its server, are at work.
	current(path string, age time.Duration) bool
}

// samePaths is for a layout whose files lie under their keys.
type samePaths struct{}

func (samePaths) key(path string) string { return path }
func (samePaths) path(key string) string { return key }

// use is what becomes of a file.
type use uint8

const (
	item    use = iota // it becomes an item under its path
	skipped            // it is the server's own, or was never finished
)

// Recognize returns the layout that a directory of another server has, or "" where that is not sure: a repository of V'Ger has a config of a
// known format, and one of borg a manifest or, since 2.0.0b25, a config. It looks into no other directory below: that may be on a disk that does not answer.
func Recognize(fsys vfs.FS, dir string) string {
	l, _, err := layoutOf(fsys, dir)
	if err != nil || l == nil {
		return ""
	}
	switch l := l.(type) {
	case vGer:
		if l.packs == "" {
			return ""
		}
	case borgStore:
		if l.borg && !ofBorg(fsys, dir) {
			return ""
		}
	}
	name, _ := l.names()
	return name
}

// ofBorg tells whether a directory of BorgStore's file backend has what borg stores first.
func ofBorg(fsys vfs.FS, dir string) bool {
	for _, name := range []string{"manifest", "config"} {
		if info, err := fsys.Stat(filepath.Join(dir, "config", name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// Detect returns the layout that a directory of another server has by the names in it, and the dialect of its clients, or says why none.
func Detect(fsys vfs.FS, dir string) (layout, dialect string, err error) {
	l, err := detect(fsys, dir)
	if err != nil {
		return "", "", err
	}
	layout, dialect = l.names()
	return layout, dialect, nil
}

// detect finds out which layout a directory has, or says why none.
func detect(fsys vfs.FS, dir string) (foreign, error) {
	l, entries, err := layoutOf(fsys, dir)
	if err != nil || l != nil {
		return l, err
	}
	if several := repositories(fsys, dir, entries); len(several) > 0 {
		return nil, fmt.Errorf("each of its directories is a repository: adopt them one by one, under a name each: %s", strings.Join(several, ", "))
	}
	if len(entries) == 0 {
		return nil, errors.New("the directory is empty")
	}
	return nil, errors.New("none of the layouts of BorgStore's file backend, of vger-server and vykar-server, and of rest-server was recognized")
}

// layoutOf is the layout of a directory by the names in it; nil: none that is known.
func layoutOf(fsys vfs.FS, dir string) (foreign, []fs.DirEntry, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	isDir, isFile := make(map[string]bool), make(map[string]bool)
	for _, entry := range entries {
		switch {
		case entry.IsDir():
			isDir[entry.Name()] = true
		case entry.Type().IsRegular():
			isFile[entry.Name()] = true
		}
	}
	switch {
	case isFile["README"] && isFile["config"] && isDir["data"]:
		return nil, nil, errors.New("this is a repository of BorgBackup 1, which works without a server: transfer it to a new one with borg 2 (borg transfer)")
	case isFile["config"] && isDir["data"] && isDir["keys"]:
		return restic{}, entries, nil
	case isFile["config"] && (isDir["packs"] || isDir["snapshots"] || isDir["keys"]):
		l, err := newVGer(fsys, dir)
		return l, entries, err
	case isDir["config"] && (isDir["packs"] || isDir["data"] || isDir["archives"] || isDir["keys"]):
		return borgStore{borg: true}, entries, nil
	case isFile["quota.hid"]:
		return borgStore{}, entries, nil
	}
	return nil, entries, nil
}

// Layouts, by the names under which a directory can be written in them.
const (
	LayoutBorgStore = layoutBorgStore
	LayoutVykar     = "vykar" // layoutVGer, as the newest of its servers writes it
	LayoutRestic    = layoutRestic
)

// Written are the names of the layouts that a directory can be written in, for people.
const Written = LayoutBorgStore + ", " + LayoutRestic + " or " + LayoutVykar

// Dialect is that of the clients of a layout; "": there is no such layout.
func Dialect(layout string) string {
	if l := written(layout); l != nil {
		_, dialect := l.names()
		return dialect
	}
	return ""
}

func written(layout string) foreign {
	switch layout {
	case LayoutBorgStore:
		return borgStore{}
	case LayoutVykar:
		return vGer{}
	case LayoutRestic:
		return restic{}
	}
	return nil
}

// Path is where a layout, also one that directories are adopted in, has the file of a key: its path below the directory, with slashes.
func Path(layout, key string) string {
	if layout == layoutRestic {
		return restic{}.path(key)
	}
	return key
}

// Directories are those that the server of a layout expects to be there, by their paths below the directory, each after the one that it lies in. Others it makes.
func Directories(layout string) []string {
	if layout == layoutRestic {
		return restic{}.directories()
	}
	return nil
}

// Unfit says why an item cannot be a file of a layout under its key; nil: it can.
func Unfit(layout, key string) error {
	l := written(layout)
	if l == nil {
		return errors.New("unknown layout")
	}
	use, _, err := l.file(l.path(key))
	if err == nil && use == skipped {
		err = errors.New("that server takes a file of this name for an unfinished one, or for its own")
	}
	return err
}

// shownNames is how many names an error lists.
const shownNames = 5

// repositories are those of the directories that have a layout: the servers of the first generations of V'Ger had many in one.
func repositories(fsys vfs.FS, dir string, entries []fs.DirEntry) (found []string) {
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		name := entry.Name()
		info, err := fsys.Stat(filepath.Join(dir, name, "config"))
		if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
			continue
		}
		if found = append(found, oneLine(name)); len(found) > shownNames {
			return append(found[:shownNames], "…")
		}
	}
	return found
}

// byName is the layout of that name, for a directory that does not show which it has, with what its files say of it.
func byName(fsys vfs.FS, dir, name string) (foreign, error) {
	switch name {
	case "":
		l, err := detect(fsys, dir)
		if b, ok := l.(borgStore); ok && b.borg {
			return b.sampled(fsys, dir), err
		}
		return l, err
	case layoutBorgStore:
		b := borgStore{borg: ofBorg(fsys, dir)}
		if b.borg {
			b = b.sampled(fsys, dir)
		}
		return b, nil
	case layoutVGer:
		return newVGer(fsys, dir)
	case layoutRestic:
		return restic{}, nil
	}
	return nil, fmt.Errorf("unknown layout %q: %s, %s and %s are known", name, layoutBorgStore, layoutRestic, layoutVGer)
}
