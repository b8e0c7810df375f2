package adopt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
	"packhouse/repo/recovery"
)

// Options of an adoption. Source and Into are required.
type Options struct {
	Source string // the directory of the other server, absolute and without symbolic links
	Into   string // the directory above that of the repository: it exists
	Name   string // of the repository
	Dir    string // of the repository; "": as a data directory Into has it
	Layout string // "": as the directory shows
	Force  bool   // also when a client or a server seems to be at work
	// Mark calls Mark where nobody can create a repository of that name meanwhile. nil: nobody does.
	Mark func(ctx context.Context) error

	FS       vfs.FS           // nil means the operating system's
	Now      func() time.Time // nil means time.Now
	Rand     io.Reader        // nil means crypto/rand
	Index    index.Options    // of the index that is made; for tests that fail commits
	Progress func(Progress)   // called now and then; nil: by nobody
}

// Progress is how far an adoption is.
type Progress struct {
	Step  string
	Files int64
	Bytes int64
	// Of what there is in all; 0: not known yet.
	FilesTotal, BytesTotal int64
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o
}

// path is where the source has the file of a key.
func (o Options) path(key string) string { return filepath.Join(o.Source, filepath.FromSlash(key)) }

// dir is the directory of the repository.
func (o Options) dir() string {
	if o.Dir != "" {
		return o.Dir
	}
	return filepath.Join(o.Into, layout.DirName(o.Name))
}

// target is where files are taken in: the directory of the repository, which may be there already as a symbolic link to another file system, or
// that above it.
func (o Options) target() string {
	if info, err := o.FS.Stat(o.dir() + "/."); err == nil && info.IsDir() { // where it leads
		return o.dir()
	}
	return o.Into
}

// Run makes the repository. There is no repository in the directory Name of Into, nor anything that is not of an earlier Run, and
// nobody makes one there. When it returns nil, the repository is there and durable, with what the source had; after an error, or a crash at any time, there
// is none, and Run can be repeated. The source is as it was, but for the number of names of its files.
//
// Errors: of Survey.Err, before anything was changed; of Mark; that another process does the same; that the source changes meanwhile; blobstore.ErrNoSpace; ctx.Err(), else I/O.
func Run(ctx context.Context, o Options) (*Survey, error) {
	o = o.withDefaults()
	s, err := Look(ctx, o)
	if err == nil {
		err = s.Err(o.Force)
	}
	if err == nil {
		err = s.try(o)
	}
	if err != nil {
		return s, err
	}
	a := &adoption{Options: o, survey: s}
	if o.Mark != nil {
		err = o.Mark(ctx)
	} else {
		err = Mark(o.FS, o.dir(), o.Source)
	}
	if err != nil {
		return s, err
	}
	unlock, err := lockMark(o.FS, o.dir())
	if err != nil {
		return s, err
	}
	defer unlock()
	if err := blobstore.Init(o.FS, o.dir()); err != nil {
		return s, err
	}
	if a.store, err = blobstore.Open(blobstore.Options{Dir: o.dir(), FS: o.FS, Rand: o.Rand, Now: o.Now}); err != nil {
		return s, err
	}
	err = errors.Join(a.takeAll(ctx), a.store.Close())
	if err == nil {
		err = a.finish(ctx)
	}
	return s, err
}

// adoption is one run.
type adoption struct {
	Options
	survey *Survey
	store  *blobstore.Store
	copied atomic.Bool // a file was, or that was tried
}

// takeAll writes the list, and takes in its files.
func (a *adoption) takeAll(ctx context.Context) error {
	if syncer, ok := a.FS.(vfs.FileSystemSyncer); ok {
		a.Progress(Progress{Step: "writing what the file system has not written yet"})
		if err := syncer.SyncFileSystem(a.Source); err != nil {
			return fmt.Errorf("sync the file system of the source: %w", vfs.WithoutPath(err))
		}
	}
	dropped, err := a.writeList(ctx)
	if err != nil {
		return err
	}
	for _, ref := range dropped {
		if err := a.store.RemoveForeign(ref); err != nil {
			return err
		}
	}
	if err := a.takeListed(ctx); err != nil {
		return err
	}
	return a.store.SyncForeign()
}

// writeList writes what the source has now. Files that an earlier list has as they are keep their refs; those that are no more are
// returned.
func (a *adoption) writeList(ctx context.Context) (dropped []blobstore.Ref, err error) {
	old, err := layout.OpenAdoptionList(a.FS, a.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: give this adoption up (packhouse adopt --abandon %s --force), and adopt again", err, a.Name)
	}
	if old != nil {
		defer old.Close() // it is only read
	}
	earlier := &earlierList{list: old}
	list, err := layout.NewAdoptionList(a.FS, a.dir(), layout.Adoption{
		Dialect: a.survey.Dialect, Layout: a.survey.Layout, Source: a.Source, Method: a.survey.Method, Began: a.Now().UnixMilli(),
	})
	if err != nil {
		return nil, vfs.WithoutPath(err)
	}
	w := &walker{fs: a.FS, root: a.Source, foreign: a.survey.foreign}
	w.take = func(f found) error {
		adopted := layout.Adopted{Key: f.key, Size: f.info.Size(), Modified: f.modified(), Algorithm: f.algorithm}
		if exempt(f.key, adopted.Size) {
			adopted.Flags |= layout.AdoptedExempt
		}
		if f.key == a.survey.Newest {
			adopted.Flags |= layout.AdoptedBackup
		}
		var err error
		if adopted.Ref, err = earlier.ref(adopted); err == nil && adopted.Ref == "" {
			adopted.Ref, err = a.store.NewRef()
		}
		if err != nil {
			return err
		}
		return list.Add(adopted)
	}
	err = w.walk(ctx)
	if err == nil {
		err = earlier.rest()
	}
	if err != nil {
		return nil, errors.Join(err, list.Abort())
	}
	return earlier.dropped, vfs.WithoutPath(list.Commit())
}

// earlierList is the list of an earlier run, read alongside a walk.
type earlierList struct {
	list    *layout.AdoptionReader // nil: there is none
	next    *layout.Adopted        // nil: to be read
	dropped []blobstore.Ref        // of files that are not as they were
}

// ref is that of the same file in the list; "": it has none.
func (e *earlierList) ref(now layout.Adopted) (blobstore.Ref, error) {
	for e.list != nil {
		if e.next == nil {
			next, err := e.list.Next()
			if errors.Is(err, io.EOF) {
				e.list = nil
				return "", nil
			}
			if err != nil {
				return "", err
			}
			e.next = &next
		}
		if before(now.Key, e.next.Key) {
			return "", nil
		}
		was := e.next
		e.next = nil
		if was.Key == now.Key && was.Size == now.Size && was.Modified.Equal(now.Modified) {
			return was.Ref, nil
		}
		e.dropped = append(e.dropped, was.Ref)
	}
	return "", nil
}

// rest drops what comes behind the last file of the source.
func (e *earlierList) rest() error {
	_, err := e.ref(layout.Adopted{Key: "\xff"}) // behind all keys, which are UTF-8
	return err
}

// atOnce is how many files are taken in between two reports.
const atOnce = 1024

// takeListed links or copies the files of the list.
func (a *adoption) takeListed(ctx context.Context) error {
	list, err := layout.OpenAdoptionList(a.FS, a.dir())
	if err != nil {
		return err
	}
	defer list.Close() // it is only read
	p := Progress{Step: map[string]string{layout.MethodLink: "linking", layout.MethodCopy: "copying"}[a.survey.Method], FilesTotal: a.survey.Files, BytesTotal: a.survey.Bytes}
	for ended := false; !ended; {
		a.Progress(p)
		var workers errgroup.Group
		workers.SetLimit(runtime.GOMAXPROCS(0))
		for n := 0; n < atOnce; n++ {
			adopted, err := list.Next()
			if ended = errors.Is(err, io.EOF); ended {
				break
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return errors.Join(err, workers.Wait())
			}
			p.Files++
			p.Bytes += adopted.Size
			workers.Go(func() error {
				if err := a.take(ctx, list.Adoption, adopted); err != nil {
					return fmt.Errorf("%s: %w", adopted.Key, err)
				}
				return nil
			})
			if a.survey.Method == layout.MethodCopy && n%16 == 0 {
				a.Progress(p)
			}
		}
		if err := workers.Wait(); err != nil {
			return err
		}
	}
	a.Progress(p)
	return nil
}

var errChanged = errors.New("the file has changed meanwhile: stop the server of the directory and its clients, and adopt again")

func (a *adoption) take(ctx context.Context, in layout.Adoption, f layout.Adopted) error {
	if err := a.plain(f.Key); err != nil {
		return err
	}
	if a.survey.Method == layout.MethodLink {
		err := a.link(f)
		if !errors.Is(err, blobstore.ErrOtherFileSystem) {
			return err
		}
		// Something is mounted in the source.
	}
	a.copied.Store(true)
	label, err := f.Label(in)
	if err != nil {
		return err
	}
	err = a.store.CopyForeign(ctx, f.Ref, a.path(f.Key), f.Size, label)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, blobstore.ErrCorrupt) {
		return errChanged
	}
	return err
}

func (a *adoption) link(f layout.Adopted) error {
	info, err := a.store.LinkForeign(f.Ref, a.path(f.Key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errChanged
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the kernel refuses to link it (%w): it may have the attribute immutable or append-only (lsattr, chattr)", err)
	case err != nil:
		return err
	case info.Size() != f.Size || !info.ModTime().Truncate(time.Millisecond).Equal(f.Modified):
		return errChanged
	}
	// Who may write to the source could have put a link to another directory in the place of one of its own meanwhile, for this process to
	// take in a file that only it may read.
	st, ok := info.Sys().(*syscall.Stat_t)
	if err = a.plain(f.Key); err == nil && ok && !a.survey.owners[st.Uid] {
		err = errChanged
	}
	if err != nil {
		return errors.Join(err, a.store.RemoveForeign(f.Ref))
	}
	return nil
}

// plain wants no directory above a file of the source to have become something else, such as a symbolic link.
func (o Options) plain(key string) error {
	for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
		info, err := o.FS.Stat(o.path(dir))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return errChanged
		}
		if err != nil {
			return vfs.WithoutPath(err)
		}
	}
	return nil
}

// finish makes the index, which makes the directory a repository, and removes the mark.
func (a *adoption) finish(ctx context.Context) error {
	// The repository is as old as the oldest file: no byte that no scrub has read is older than that.
	values := map[string][]byte{layout.MetaCreated: layout.EncodeCreated(a.survey.Oldest)}
	err := recovery.FirstIndex(ctx, a.dir(), recovery.FirstIndexOptions{
		RebuildOptions: recovery.RebuildOptions{
			FS: a.FS, Now: a.Now, Rand: a.Rand, Index: a.Index,
			Progress: func(n int64) {
				bytes := int64(float64(a.survey.Bytes) * float64(n) / float64(a.survey.Files))
				a.Progress(Progress{Step: "indexing", Files: n, Bytes: bytes, FilesTotal: a.survey.Files, BytesTotal: a.survey.Bytes})
			},
		},
		Meta: values, Labelled: a.copied.Load(),
	})
	if err != nil {
		return err
	}
	// A server that has opened the repository since it has its index has removed the mark as well.
	if err := layout.IgnoreMissing(a.FS.Remove(filepath.Join(a.dir(), layout.AdoptingFile))); err != nil {
		return vfs.WithoutPath(err)
	}
	return vfs.WithoutPath(a.FS.SyncDir(a.dir()))
}

// try links a file of each owner and takes the link back, so that what the kernel refuses is known before anything is done; and looks whether
// copies fit.
func (s *Survey) try(o Options) error {
	for _, key := range s.trials {
		if s.Method != layout.MethodLink {
			break
		}
		trial := o.trialName()
		err := o.FS.Link(o.path(key), trial)
		if err == nil {
			err = o.FS.Remove(trial)
		}
		switch {
		case vfs.OtherFileSystem(err): // another mount of the same file system
			s.Method = layout.MethodCopy
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("%s: the kernel refuses to link it: run this, and the server, as the user whom the directory belongs to (sudo -u), or as root", key)
		case err != nil:
			return fmt.Errorf("%s: %w", key, vfs.WithoutPath(err))
		}
	}
	if s.Method == layout.MethodLink || len(s.trials) == 0 || layout.IsAdopting(o.FS, o.dir()) {
		return nil // what an earlier run copied is there
	}
	free, _, err := o.FS.Space(o.target())
	if err != nil || free >= s.Bytes+spareSpace || clones(o, s.trials[0]) {
		return vfs.WithoutPath(err)
	}
	return fmt.Errorf("the source is on another file system, and copies of it need %d bytes, of which %d are free", s.Bytes, free)
}

// spareSpace is what copies leave for list, index and checksums.
const spareSpace = 64 << 20

// clones tells whether files of the source can be cloned, which needs no space.
func clones(o Options, key string) (yes bool) {
	source, err := o.FS.Open(o.path(key))
	if err != nil {
		return false
	}
	defer source.Close() // it is only read
	name := o.trialName()
	trial, err := o.FS.Create(name)
	if err != nil {
		return false
	}
	cloner, ok := trial.(vfs.Cloner)
	yes = ok && cloner.CloneOf(source) == nil
	return errors.Join(trial.Close(), o.FS.Remove(name)) == nil && yes
}

// trialName is free, and in nobody's way where a crash leaves it.
func (o Options) trialName() string {
	if target := o.target(); target != o.Into {
		return filepath.Join(target, layout.AdoptingFile+"-"+rand.Text())
	}
	return filepath.Join(o.Into, ".adopt-"+strings.ToLower(rand.Text())) // no repository has such a name
}
