package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// found is a file of the source that becomes an item.
type found struct {
	key       string
	info      fs.FileInfo
	algorithm string
}

// A walker visits the files of a source in the order of their keys, part by part: so two walks can be compared one file after the other.
// It holds the entries of the directories on its way.
type walker struct {
	fs      vfs.FS
	root    string
	foreign foreign
	take    func(found) error
	skip    func(key string, info fs.FileInfo)
	refuse  func(key, why string) // nil: what cannot be taken in ends the walk
}

// maxDepth is how deep directories lie at most; keys of both protocols have fewer parts.
const maxDepth = 64

func (w *walker) walk(ctx context.Context) error { return w.dir(ctx, "", 0) }

func (w *walker) dir(ctx context.Context, below string, depth int) error {
	entries, err := w.fs.ReadDir(filepath.Join(w.root, filepath.FromSlash(below)))
	if err != nil {
		return w.refused(below+"/", fmt.Sprintf("the directory cannot be read: %v", vfs.WithoutPath(err)))
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := strings.TrimPrefix(below+"/"+entry.Name(), "/")
		switch mode := entry.Type(); {
		case entry.IsDir() && (key == "lost+found" || key == layout.OwnDir): // the file system's, or of a server of ours that was pointed at it
		case entry.IsDir() && depth == maxDepth:
			err = w.refused(key+"/", "directories lie too deep")
		case entry.IsDir():
			err = w.dir(ctx, key, depth+1)
		case mode.IsRegular():
			err = w.file(key, entry)
		case mode&fs.ModeSymlink != 0:
			err = w.refused(key, "a symbolic link, which is not followed")
		default:
			err = w.refused(key, "neither a file nor a directory")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) file(key string, entry fs.DirEntry) error {
	use, algorithm, err := w.foreign.file(key)
	if err != nil {
		return w.refused(key, err.Error())
	}
	info, err := entry.Info()
	if err != nil {
		return w.refused(key, fmt.Sprintf("it cannot be looked at: %v; does its server run?", vfs.WithoutPath(err)))
	}
	if use == skipped {
		if w.skip != nil {
			w.skip(key, info)
		}
		return nil
	}
	return w.take(found{key, info, algorithm})
}

func (w *walker) refused(key, why string) error {
	if w.refuse != nil {
		w.refuse(key, why)
		return nil
	}
	return errors.New(Problem{key, why}.String())
}

// before tells whether key a comes before b on a walk.
func before(a, b string) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			return b[i] != '/' && (a[i] == '/' || a[i] < b[i])
		}
	}
	return len(a) < len(b)
}

// modified is the time of a file in the precision of the index.
func (f found) modified() time.Time { return f.info.ModTime().Truncate(time.Millisecond) }
