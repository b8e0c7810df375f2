package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// found is a file of the source that becomes an item.
type found struct {
	path      string // below the source, with slashes
	info      fs.FileInfo
	algorithm string
}

// A walker visits the files of a source in the order of their keys, part by part: so two walks can be compared one file after the other.
// It holds the names in the directories on its way.
type walker struct {
	tree    vfs.Tree
	foreign foreign
	take    func(found) error
	skip    func(key string, info fs.FileInfo)
	refuse  func(key, why string) // nil: what cannot be taken in ends the walk
}

// maxDepth is how deep directories lie at most; keys of both protocols have fewer parts.
const maxDepth = 64

func (w *walker) walk(ctx context.Context) error { return w.dir(ctx, w.tree, "", 0) }

// lookAtOnce is how many files are looked at before the first of them is taken.
const lookAtOnce = 1024

func (w *walker) dir(ctx context.Context, tree vfs.Tree, below string, depth int) error {
	entries, err := tree.ReadDir()
	if err != nil {
		return w.refused(below+"/", fmt.Sprintf("the directory cannot be read: %v", vfs.WithoutPath(err)))
	}
	for some := range slices.Chunk(entries, lookAtOnce) {
		looked := lookAt(some)
		for i, entry := range some {
			if err := ctx.Err(); err != nil {
				return err
			}
			key := strings.TrimPrefix(below+"/"+entry.Name(), "/")
			switch mode := entry.Type(); {
			case entry.IsDir() && (key == "lost+found" || key == layout.OwnDir): // the file system's, or of a server of ours that was pointed at it
			case entry.IsDir() && depth == maxDepth:
				err = w.refused(key+"/", "directories lie too deep")
			case entry.IsDir():
				err = w.below(ctx, tree, entry.Name(), key, depth+1)
			case mode.IsRegular():
				err = w.file(key, looked[i])
			case mode&fs.ModeSymlink != 0:
				err = w.refused(key, "a symbolic link, which is not followed")
			default:
				err = w.refused(key, "neither a file nor a directory")
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// below visits a directory.
func (w *walker) below(ctx context.Context, above vfs.Tree, name, key string, depth int) error {
	tree, err := above.Dir(name)
	if err != nil {
		return w.refused(key+"/", fmt.Sprintf("the directory cannot be read: %v", vfs.WithoutPath(err)))
	}
	defer tree.Close() // it is only read
	return w.dir(ctx, tree, key, depth)
}

// looked is what a look at a file found.
type looked struct {
	info fs.FileInfo
	err  error
}

// lookAt looks at the regular files of entries, on all processors.
func lookAt(entries []fs.DirEntry) []looked {
	found := make([]looked, len(entries))
	var workers errgroup.Group
	const each = 128 // as many take longer than to begin a goroutine
	for from := 0; from < len(entries); from += each {
		workers.Go(func() error {
			for i := from; i < min(from+each, len(entries)); i++ {
				if entries[i].Type().IsRegular() {
					found[i].info, found[i].err = entries[i].Info()
				}
			}
			return nil
		})
	}
	_ = workers.Wait() // which has none
	return found
}

func (w *walker) file(key string, at looked) error {
	use, algorithm, err := w.foreign.file(key)
	if err != nil {
		return w.refused(key, err.Error())
	}
	info, err := at.info, at.err
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is another file now")
	}
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
