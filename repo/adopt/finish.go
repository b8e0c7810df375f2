package adopt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// Finished is what Finish has done.
type Finished struct {
	Files int64 // removed from the source
	Bytes int64 // that they had
	Kept  int64 // files that are not what they were when they were adopted
	First string
	// Left tells that something is left in the source, and so its directory.
	Left bool
}

// Finish removes from the source what was adopted from it: the files of the list that are there as they were, and then the directories that are
// empty. What has changed since, or was added, stays. The repository in Into and Name must be complete; whether its items are sound, the caller
// has looked. After an error or a crash it can be repeated. It needs only Source, Into, Name, FS and Progress of the options.
func Finish(ctx context.Context, o Options) (done Finished, err error) {
	o = o.withDefaults()
	list, err := layout.OpenAdoptionList(o.FS, o.dir())
	if err != nil {
		return done, err
	}
	defer list.Close() // it is only read
	if list.Source != o.Source {
		return done, errors.New("the list of adopted files is of another directory, " + list.Source)
	}
	source, err := vfs.OpenTree(o.FS, o.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return done, nil // an earlier one has come to its end
	}
	if err != nil {
		return done, fmt.Errorf("open the directory: %w", vfs.WithoutPath(err))
	}
	defer source.Close() // nothing of it needs to be durable
	r := remover{visitor{layout: list.Layout, source: source}, &done}
	defer r.leave()
	dirs := make(map[string]bool)                  // below the source
	for _, dir := range Directories(list.Layout) { // also those that never had a file
		dirs[dir] = true
	}
	for n := int64(0); ; n++ {
		a, err := list.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = r.remove(a)
		}
		if err != nil {
			return done, err
		}
		for dir := path.Dir(Path(list.Layout, a.Key)); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
		}
		if n%1024 == 0 {
			o.Progress(Progress{Step: "removing", Files: done.Files, Bytes: done.Bytes})
		}
	}
	below := slices.SortedFunc(maps.Keys(dirs), func(a, b string) int { return len(b) - len(a) }) // what lies deeper is longer
	for _, dir := range below {
		if r.enter(path.Dir(dir)) == nil {
			_ = r.tree.Remove(path.Base(dir)) // fails where something is left
		}
	}
	err = o.FS.Remove(o.Source)
	done.Left = err != nil && !errors.Is(err, fs.ErrNotExist)
	return done, nil
}

// remover removes files from a source.
type remover struct {
	visitor
	done *Finished
}

// remove removes one file, if it is what was adopted.
func (r *remover) remove(a layout.Adopted) error {
	info, err := r.stat(a)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case vfs.Replaced(err): // what a link leads to is not the source's
		r.done.keep(a.Key)
		return nil
	case err != nil:
		return vfs.WithoutPath(err)
	}
	if !unchanged(info, a) {
		r.done.keep(a.Key)
		return nil
	}
	if err := r.tree.Remove(path.Base(a.Key)); err != nil {
		return &fs.PathError{Op: "remove", Path: filepath.FromSlash(a.Key), Err: vfs.WithoutPath(err)}
	}
	r.done.Files++
	r.done.Bytes += a.Size
	return nil
}

func (f *Finished) keep(key string) {
	if f.Kept++; f.First == "" {
		f.First = key
	}
}
