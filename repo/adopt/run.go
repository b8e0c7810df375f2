package adopt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/internal/shell"
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

// path is a file of the source, by its path below that.
func (o Options) path(below string) string { return filepath.Join(o.Source, filepath.FromSlash(below)) }

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
	source, err := openSource(o)
	if err != nil {
		return nil, err
	}
	defer source.Close() // it is only read
	s, err := look(ctx, o, source)
	if err == nil {
		err = s.Err(o.Force)
	}
	if err != nil {
		return s, err
	}
	a := &adoption{Options: o, source: source, survey: s, notify: make(chan struct{}, 1)}
	if o.Mark != nil {
		err = o.Mark(ctx)
	} else {
		err = Mark(o.FS, o.dir(), o.Source)
	}
	if err != nil {
		return s, err
	}
	unlock, err := LockMark(o.FS, o.dir())
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
		err = a.finish()
	}
	return s, err
}

// openSource opens the directory, which is that of the source from then on, whatever gets its name.
func openSource(o Options) (vfs.Tree, error) {
	source, err := vfs.OpenTree(o.FS, o.Source)
	if err != nil {
		return nil, fmt.Errorf("open the directory %s: %w", oneLine(o.Source), vfs.WithoutPath(err))
	}
	return source, nil
}

// adoption is one run.
type adoption struct {
	Options
	source vfs.Tree
	survey *Survey
	store  *blobstore.Store
	copied atomic.Bool // a file was, or that was tried

	taken  atomic.Int64  // of the first files of the list; allTaken: all, durably
	notify chan struct{} // holds a token when taken has grown
}

const allTaken = math.MaxInt64

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
	// Two halves that need different things: the one waits for the file system's names, the other computes.
	halves, ctx := errgroup.WithContext(ctx)
	halves.Go(func() error {
		err := a.takeListed(ctx)
		if err == nil {
			a.Progress(Progress{Step: "writing the directories", Files: a.survey.Files, Bytes: a.survey.Bytes, FilesTotal: a.survey.Files, BytesTotal: a.survey.Bytes})
			err = a.store.SyncForeign()
		}
		if err == nil {
			a.tookTo(allTaken)
		}
		return err
	})
	halves.Go(func() error { return a.makeIndex(ctx) })
	return halves.Wait()
}

// tookTo says that the first n files of the list are there; allTaken: all, durably.
func (a *adoption) tookTo(n int64) {
	a.taken.Store(n)
	select {
	case a.notify <- struct{}{}:
	default: // there is a token
	}
}

// wait returns when the first n files of the list are there; n negative: all of them, durably.
func (a *adoption) wait(ctx context.Context, n int64) error {
	if n < 0 {
		n = allTaken
	}
	for a.taken.Load() < n {
		select {
		case <-a.notify:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// writeList writes what the source has now. Files that an earlier list has as they are keep their refs; those that are no more are
// returned.
func (a *adoption) writeList(ctx context.Context) (dropped []blobstore.Ref, err error) {
	old, err := layout.OpenAdoptionList(a.FS, a.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: give this adoption up (packhouse adopt --abandon %s --force), and adopt again", err, shell.Word(a.Name))
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
	w := &walker{tree: a.source, foreign: a.survey.foreign}
	w.take = func(f found) error {
		adopted := layout.Adopted{Key: a.survey.foreign.key(f.path), Size: f.info.Size(), Modified: f.modified(), Algorithm: f.algorithm}
		if exempt(adopted.Key, adopted.Size) {
			adopted.Flags |= layout.AdoptedExempt
		}
		if f.path == a.survey.Newest {
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

// The files of the list are taken in by parts of one directory each, several at once, and those of one round are there before the next begins.
const (
	partFiles  = 128
	partBytes  = 64 << 20 // of copies
	roundFiles = 10_000
	roundBytes = 4 << 30 // of copies
	tellFiles  = 1024    // after which progress is told
)

// takeListed links or copies the files of the list.
func (a *adoption) takeListed(ctx context.Context) error {
	list, err := layout.OpenAdoptionList(a.FS, a.dir())
	if err != nil {
		return err
	}
	defer list.Close() // it is only read
	p := Progress{Step: map[string]string{layout.MethodLink: "linking", layout.MethodCopy: "copying"}[a.survey.Method], FilesTotal: a.survey.Files, BytesTotal: a.survey.Bytes}
	copies := a.survey.Method == layout.MethodCopy
	a.Progress(p)
	told := p
	for ended := false; !ended; {
		workers, ctx := errgroup.WithContext(ctx)
		workers.SetLimit(runtime.GOMAXPROCS(0))
		var part []layout.Adopted
		begun, size := p, int64(0)
		take := func() {
			if len(part) > 0 {
				p.Files += int64(len(part))
				p.Bytes += size
				taken := part
				workers.Go(func() error { return a.takePart(ctx, list.Adoption, taken) })
				part, size = nil, 0
				if p.Files-told.Files >= tellFiles || copies && p.Bytes-told.Bytes >= partBytes {
					a.Progress(p)
					told = p
				}
			}
		}
		for err == nil && !ended && p.Files-begun.Files < roundFiles && (!copies || p.Bytes-begun.Bytes < roundBytes) {
			var next layout.Adopted
			next, err = list.Next()
			if ended = errors.Is(err, io.EOF); ended {
				err = nil
				break
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				break
			}
			if len(part) > 0 && path.Dir(a.lies(next)) != path.Dir(a.lies(part[0])) {
				take()
			}
			part, size = append(part, next), size+next.Size
			if len(part) == partFiles || copies && size >= partBytes {
				take()
			}
		}
		take()
		if workErr := workers.Wait(); workErr != nil {
			err = workErr // which has ended the other
		}
		if err != nil {
			return err
		}
		a.tookTo(p.Files)
	}
	a.Progress(p)
	return nil
}

var errChanged = errors.New("the file has changed meanwhile: stop the server of the directory and its clients, and adopt again")

// lies is the path of a file below the source.
func (a *adoption) lies(f layout.Adopted) string { return Path(a.survey.Layout, f.Key) }

// takePart takes in files of one directory.
func (a *adoption) takePart(ctx context.Context, in layout.Adoption, part []layout.Adopted) error {
	dir, err := a.source.Dir(path.Dir(a.lies(part[0])))
	if vfs.Replaced(err) {
		err = errChanged
	}
	if err != nil {
		return fmt.Errorf("%s: %w", part[0].Key, vfs.WithoutPath(err))
	}
	defer dir.Close() // it is only read
	for _, f := range part {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.take(ctx, in, dir, f); err != nil {
			return fmt.Errorf("%s: %w", f.Key, err)
		}
	}
	return nil
}

func (a *adoption) take(ctx context.Context, in layout.Adoption, dir vfs.Tree, f layout.Adopted) error {
	if a.survey.Method == layout.MethodLink {
		err := a.link(dir, f)
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
	err = a.store.CopyForeign(ctx, f.Ref, dir, path.Base(f.Key), f.Size, label)
	if vfs.Replaced(err) || errors.Is(err, blobstore.ErrCorrupt) {
		return errChanged
	}
	return err
}

func (a *adoption) link(dir vfs.Tree, f layout.Adopted) error {
	info, err := a.store.LinkForeign(f.Ref, dir, path.Base(f.Key))
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
	// Who may write to the source could have put a file of another user there meanwhile, for this process to take in what only it may read.
	if st, ok := info.Sys().(*syscall.Stat_t); ok && !a.survey.owners[st.Uid] {
		return errors.Join(errChanged, a.store.RemoveForeign(f.Ref))
	}
	return nil
}

// makeIndex makes the index, which makes the directory a repository, from the files that are there, while others are taken in.
func (a *adoption) makeIndex(ctx context.Context) error {
	return recovery.FirstIndex(ctx, a.dir(), recovery.FirstIndexOptions{
		RebuildOptions: recovery.RebuildOptions{
			FS: a.FS, Now: a.Now, Rand: a.Rand, Index: a.Index,
			Progress: func(n int64) {
				if a.taken.Load() < allTaken {
					return // how far the other half is says more
				}
				bytes := int64(float64(a.survey.Bytes) * float64(n) / float64(a.survey.Files))
				a.Progress(Progress{Step: "indexing", Files: n, Bytes: bytes, FilesTotal: a.survey.Files, BytesTotal: a.survey.Bytes})
			},
		},
		// The repository is as old as the oldest file: no byte that no scrub has read is older than that.
		Meta: map[string][]byte{layout.MetaCreated: layout.EncodeCreated(a.survey.Oldest)},
		Wait: a.wait, Labelled: a.copied.Load, Store: a.store,
	})
}

// finish removes the mark.
func (a *adoption) finish() error {
	// A server that has opened the repository since it has its index has removed the mark as well.
	if err := layout.IgnoreMissing(a.FS.Remove(filepath.Join(a.dir(), layout.AdoptingFile))); err != nil {
		return vfs.WithoutPath(err)
	}
	return vfs.WithoutPath(a.FS.SyncDir(a.dir()))
}
