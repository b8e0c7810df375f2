package adopt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// Abandoned is what Abandon has done.
type Abandoned struct {
	Source string // the directory that was being adopted
	Files  int64  // of it that had been taken in, and checksums of copies
}

// ErrNotAdopting means that no adoption waits to be completed under a name.
var ErrNotAdopting = errors.New("no adoption of that name waits to be completed")

// OnlyNameError is of an adoption that took in files which the source does not have any more as they were: to give it up would lose them.
type OnlyNameError struct {
	Files  int64
	First  string // the key of one
	Source string
}

func (e *OnlyNameError) Error() string {
	return fmt.Sprintf("%d files that were taken in are not in %s any more, such as %s: nothing was removed. Complete the adoption, or give it up with these files by --force",
		e.Files, e.Source, oneLine(e.First))
}

// Abandon gives up an adoption that was not completed: it takes back what Run has taken into the directory Name of Into, and ends with unmark, which
// calls Unmark where nobody can create a repository of that name meanwhile; nil: nobody does. The source is as it was, but for the number of names of its files.
//
// Files move from the source to the repository alone only after a repository is complete (Finish), so the source has what was taken in, unless somebody
// else has removed it there since. A blob with another name anywhere is no loss. One without, which the source does not have as it was, is an
// OnlyNameError before anything is removed, unless o.Force.
//
// When it returns nil, nothing of it is left, durably, and the name is free. After an error or a crash the mark is still there: Abandon can be
// repeated, and Run can complete the adoption. It needs only Into, Name, Force and FS of the options.
//
// Errors: ErrNotAdopting; that another process is adopting it at this moment; layout.ErrAdoptionList without o.Force; ctx.Err(), else I/O.
func Abandon(ctx context.Context, o Options, unmark func(ctx context.Context) error) (done Abandoned, err error) {
	o = o.withDefaults()
	if !layout.IsAdopting(o.FS, o.dir()) {
		return done, ErrNotAdopting
	}
	unlock, err := LockMark(o.FS, o.dir())
	if err != nil {
		return done, err
	}
	defer unlock()
	if done.Source, err = readMark(o.FS, filepath.Join(o.dir(), layout.AdoptingFile)); err != nil && !o.Force {
		return done, err
	}
	if !o.Force {
		if err := o.hasAll(ctx); err != nil {
			return done, err
		}
	}
	if err := done.takeBack(ctx, o); err != nil {
		return done, vfs.WithoutPath(err)
	}
	if unmark == nil {
		return done, Unmark(o.FS, o.dir())
	}
	return done, unmark(ctx)
}

// hasAll wants each blob that was taken in to be a file of the source as well, or to have another name elsewhere.
func (o Options) hasAll(ctx context.Context) error {
	list, err := layout.OpenAdoptionList(o.FS, o.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is written before the first file is taken in, and removed after the last
	}
	if err != nil {
		return fmt.Errorf("%w: what is only there cannot be told; --force gives the adoption up all the same", err)
	}
	defer list.Close() // it is only read
	lost := OnlyNameError{Source: list.Source}
	at := &visitor{layout: list.Layout}
	if at.source, err = vfs.OpenTree(o.FS, list.Source); err == nil {
		defer at.source.Close() // it is only read
		defer at.leave()
	} else if !vfs.Replaced(err) {
		return fmt.Errorf("open the directory %s: %w", oneLine(list.Source), vfs.WithoutPath(err))
	}
	for {
		var a layout.Adopted
		if a, err = list.Next(); err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		blob, statErr := blobstore.StatForeign(o.FS, o.dir(), a.Ref)
		if errors.Is(statErr, fs.ErrNotExist) || statErr == nil && names(blob) > 1 {
			continue
		}
		if err = statErr; err != nil {
			break
		}
		if !at.has(a) {
			if lost.Files++; lost.First == "" {
				lost.First = a.Key
			}
		}
	}
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case lost.Files > 0:
		return &lost
	}
	return nil
}

// names is how many names a file has.
func names(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) // its width depends on the architecture
	}
	return 1
}

// has tells whether the source has a file as it was when it was listed.
func (v *visitor) has(a layout.Adopted) bool {
	if v.source == nil {
		return false // it is not there any more
	}
	info, err := v.stat(a)
	return err == nil && unchanged(info, a)
}

// takeBack removes all but the mark, durably: the blobs first and the list last, by which a repeated call knows what they are.
func (done *Abandoned) takeBack(ctx context.Context, o Options) error {
	blobs := filepath.Join(o.dir(), blobstore.BlobsDir)
	shards, err := o.FS.ReadDir(blobs)
	if layout.IgnoreMissing(err) != nil {
		return err
	}
	for _, shard := range shards {
		files, err := o.FS.ReadDir(filepath.Join(blobs, shard.Name()))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := o.FS.Remove(filepath.Join(blobs, shard.Name(), file.Name())); layout.IgnoreMissing(err) != nil {
				return err
			}
			done.Files++
		}
		if err := o.FS.SyncDir(filepath.Join(blobs, shard.Name())); err != nil {
			return err
		}
	}
	entries, err := o.FS.ReadDir(o.dir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); name != layout.AdoptedDir && name != layout.AdoptingFile && madeByRun(name) {
			if err := o.FS.RemoveAll(filepath.Join(o.dir(), name)); err != nil {
				return err
			}
		}
	}
	if err := o.FS.SyncDir(o.dir()); err != nil {
		return err
	}
	if err := o.FS.RemoveAll(filepath.Join(o.dir(), layout.AdoptedDir)); err != nil {
		return err
	}
	return o.FS.SyncDir(o.dir())
}

// madeByRun tells whether an entry of the directory of a repository can be of Run. The others are a server's, the file system's, or hold
// repositories that were destroyed.
func madeByRun(name string) bool {
	switch name {
	case layout.OwnDir, layout.GraveDir, layout.RemovedDir, "lost+found":
		return false
	}
	return layout.Own(name)
}

// Unmark ends the adoption in the directory of a repository of which nothing but the mark is left, durably, and removes the directory if it is empty then. The caller sees
// to it that nobody creates a repository there meanwhile. ErrNotAdopting if there is no mark.
func Unmark(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return vfs.WithoutPath(err)
	}
	marked := false
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == layout.AdoptingFile:
			marked = true
		case madeByRun(name):
			return fmt.Errorf("the adoption is not given up yet: %s is still there", name)
		}
	}
	if !marked {
		return ErrNotAdopting
	}
	err = fsys.Remove(filepath.Join(dir, layout.AdoptingFile))
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return vfs.WithoutPath(err)
	}
	info, err := fsys.Stat(dir)
	if err != nil || !info.IsDir() { // a link to another disk stays
		return vfs.WithoutPath(err)
	}
	if fsys.Remove(dir) != nil {
		return nil // something else is in it, or a disk is mounted there
	}
	return vfs.WithoutPath(fsys.SyncDir(filepath.Dir(dir)))
}
