package backup

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/layout"
	"packhouse/repo/recovery"
	"packhouse/repo/transfer"
)

// RestoreOptions of Restore. Source, Into and Name are required.
type RestoreOptions struct {
	Source string // the directory of the backup, absolute
	Into   string // the directory above that of the repository: it exists
	Name   string // of the repository
	// Small is the most bytes of an item that is stored in the log, as in repo.Environment.
	Small int64
	// Mark calls adopt.Mark where nobody can create a repository of that name meanwhile. nil: nobody does.
	Mark func(ctx context.Context) error
	// Unmark calls adopt.Unmark, likewise.
	Unmark func(ctx context.Context) error

	FS       vfs.FS                  // nil means the operating system's
	Now      func() time.Time        // nil means time.Now
	Rand     io.Reader               // nil means crypto/rand
	Index    index.Options           // of the index that is made; for tests that fail commits
	Progress func(transfer.Progress) // called now and then, by one goroutine at a time; nil: by nobody
	Problem  func(transfer.Problem)  // called for each item that is restored as missing, likewise
}

func (o RestoreOptions) withDefaults() RestoreOptions {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Index.FS == nil {
		o.Index.FS = o.FS
	}
	o.Small = min(o.Small, index.MaxPayload)
	return o
}

// dir is the directory of the repository.
func (o RestoreOptions) dir() string { return filepath.Join(o.Into, layout.DirName(o.Name)) }

// LookRestore says what Restore would find in the backup, as far as the names and sizes of its files show, and changes nothing. Errors: as Verify, and
// repo.ErrNoSpace.
func LookRestore(ctx context.Context, o RestoreOptions) (Verified, error) {
	o = o.withDefaults()
	v, err := VerifyOptions{Dir: o.Source, FS: o.FS, Progress: o.Progress, Problem: o.Problem}.look(ctx, statFile)
	if err == nil {
		err = o.fits(v)
	}
	return v, err
}

// fits wants space for what is to be restored.
func (o RestoreOptions) fits(v Verified) error {
	dir := o.Into
	if info, err := o.FS.Stat(o.dir() + "/."); err == nil && info.IsDir() { // it may lead to another file system
		dir = o.dir()
	}
	return transfer.Fits(o.FS, dir, transfer.Amount{Items: v.Items.Items + v.Trash.Items, Bytes: v.Items.Bytes + v.Trash.Bytes})
}

// Restore makes a repository of a backup, with an ID of its own. There is none in the directory Name of Into, nor anything but what an earlier
// Restore has left, and nobody makes one there. When it returns nil, the repository is there and durable: each item has been compared with its
// hash, and those whose bytes are missing or damaged are in it as missing. After an error, or a crash at any time, there is none, and Restore can be
// repeated; it begins anew. The backup is not changed.
//
// Errors: those of LookRestore, before anything was changed; of Mark; that another process does the same; ctx.Err(), else I/O.
func Restore(ctx context.Context, o RestoreOptions) (Verified, error) {
	o = o.withDefaults()
	look := o
	look.Problem = nil // they are told when they are restored
	v, err := LookRestore(ctx, look)
	if err != nil {
		return v, err
	}
	unlockSource, err := openBackup(o.FS, o.Source)
	if err != nil {
		return v, err
	}
	defer unlockSource()
	if o.Mark != nil {
		err = o.Mark(ctx)
	} else {
		err = adopt.Mark(o.FS, o.dir(), o.Source)
	}
	if err != nil {
		return v, err
	}
	unlock, err := adopt.LockMark(o.FS, o.dir())
	if err != nil {
		return v, err
	}
	defer unlock()
	if err := o.clear(); err != nil {
		return v, err
	}
	s := &restoring{RestoreOptions: o, began: o.Now(), meter: transfer.Meter{Report: o.Progress, Problem: o.Problem}}
	if err := s.make(ctx, v); err != nil {
		return s.report, errors.Join(transfer.Failed(err), o.abandon(context.WithoutCancel(ctx)))
	}
	return s.report, transfer.Failed(o.finish())
}

// abandon removes what was made, so that it does not fill the disk, and frees the name.
func (o RestoreOptions) abandon(ctx context.Context) error {
	if err := o.removeMade(); err != nil {
		return err
	}
	if o.Unmark != nil {
		return o.Unmark(ctx)
	}
	return adopt.Unmark(o.FS, o.dir())
}

// clear removes what an earlier Restore has made, and makes the directories for blobs.
func (o RestoreOptions) clear() error {
	if _, err := o.FS.Stat(filepath.Join(o.dir(), layout.AdoptedDir)); err == nil {
		return errors.New("files of another server's directory are being adopted under this name: complete that, or remove the directory")
	}
	if err := o.removeMade(); err != nil {
		return err
	}
	return transfer.Failed(blobstore.Init(o.FS, o.dir()))
}

// removeMade removes what Restore makes before there is an index.
func (o RestoreOptions) removeMade() error {
	for _, name := range []string{blobstore.BlobsDir, blobstore.IncomingDir, index.LogDir} {
		if err := o.FS.RemoveAll(filepath.Join(o.dir(), name)); err != nil {
			return transfer.Failed(err)
		}
	}
	entries, err := o.FS.ReadDir(o.dir())
	if err != nil {
		return transfer.Failed(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, layout.RebuiltFile) || strings.HasPrefix(name, layout.IndexFile+".new-") {
			if err := o.FS.Remove(filepath.Join(o.dir(), name)); err != nil {
				return transfer.Failed(err)
			}
		}
	}
	return nil
}

// finish makes the directory, which has all of a repository, one, and removes the mark.
func (o RestoreOptions) finish() error {
	if err := recovery.PutInPlace(o.FS, o.dir()); err != nil {
		return err
	}
	// A server that has opened the repository since it has its index has removed the mark as well.
	if err := layout.IgnoreMissing(o.FS.Remove(filepath.Join(o.dir(), layout.AdoptingFile))); err != nil {
		return err
	}
	return o.FS.SyncDir(o.dir())
}

// restoring is one Restore.
type restoring struct {
	RestoreOptions
	began time.Time
	list  *listReader
	index *index.Index
	store *blobstore.Store

	meter  transfer.Meter
	report Verified // its numbers change while meter counts
}

// make makes the index and the blobs, durably; the index has another name still.
func (s *restoring) make(ctx context.Context, v Verified) (err error) {
	s.report = Verified{Repository: v.Repository, Name: v.Name, Dialect: v.Dialect, At: v.At}
	if s.list, err = openState(s.FS, s.Source); err != nil {
		return err
	}
	defer s.list.Close() // it is only read
	path := filepath.Join(s.dir(), layout.RebuiltFile)
	meta, err := s.meta()
	if err == nil {
		err = index.CreateWith(path, meta, s.Index)
	}
	if err != nil {
		return err
	}
	if s.index, err = index.Open(path, s.Index); err != nil {
		return err
	}
	s.store, err = blobstore.Open(blobstore.Options{Dir: s.dir(), FS: s.FS, Rand: s.Rand, Now: s.Now, Log: layout.Payloads{Index: s.index}, Small: s.Small})
	if err != nil {
		return errors.Join(err, s.index.Close())
	}
	s.meter.Begin("restoring", v.Items.Items+v.Trash.Items+v.Problems, v.Items.Bytes+v.Trash.Bytes)
	err = s.fill(ctx)
	if err == nil {
		err = s.record(ctx)
	}
	return errors.Join(err, s.store.Close(), s.index.Close())
}

// meta are the first values of the index.
func (s *restoring) meta() (map[string][]byte, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(s.Rand, id); err != nil {
		return nil, fmt.Errorf("draw an identity: %w", err)
	}
	text, err := json.Marshal(layout.Restored{Repository: s.list.Repository, Name: s.list.Name, State: s.list.At, At: s.began.UTC()})
	meta := make(map[string][]byte)
	maps.Copy(meta, s.list.Meta)
	for name, value := range layout.FirstMeta(s.list.Dialect, id, s.began) {
		if name != layout.MetaCreated || meta[name] == nil { // it is as old as the one that was backed up
			meta[name] = value
		}
	}
	meta[layout.MetaRestored] = text
	return meta, err
}

// record says of the repository that all of it has been read.
func (s *restoring) record(ctx context.Context) error {
	name, value, err := repo.AllCovered(s.began, s.report.Items.Items, s.report.Items.Bytes)
	if err == nil {
		_, err = s.index.Apply(ctx, index.SetMeta{Name: name, Value: value})
	}
	return err
}

// What is restored with one commit: so many lines, and bytes of small items, about.
const (
	partLines = 1024
	partBytes = 4 << 20
)

// fill restores the lines of the list, part by part.
func (s *restoring) fill(ctx context.Context) error {
	var part []*restored
	small, trash := int64(0), false
	flush := func() error {
		err := s.apply(ctx, part)
		part, small = part[:0], 0
		return err
	}
	err := s.list.each(func(l line) error {
		if trash && l.Kind != kindRemoved { // the last of these
			if err := errors.Join(flush(), s.clearDirs(ctx)); err != nil {
				return err
			}
		}
		trash = l.Kind == kindRemoved
		if part = append(part, &restored{line: l}); l.Size <= s.Small {
			small += l.Size
		}
		if len(part) >= partLines || small >= partBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil && trash { // and nothing else
		err = s.clearDirs(ctx)
	}
	return err
}

// clearDirs removes the directories that what is in the trash now has left, before those of the list are made, with their times.
func (s *restoring) clearDirs(ctx context.Context) error {
	var dirs []string
	err := s.index.List(ctx, index.ListOptions{}, func(e index.Entry) error {
		dirs = append(dirs, e.Key)
		return nil
	})
	for _, dir := range dirs {
		for err == nil {
			if _, err = s.index.Apply(ctx, index.ClearDirs{Key: dir}); err != nil {
				break
			}
			if _, getErr := s.index.Get(dir); errors.Is(getErr, index.ErrNotFound) {
				break
			} else if getErr != nil {
				err = getErr
			}
		}
	}
	return err
}

// restored is a line, and what became of its bytes.
type restored struct {
	line
	item    index.Item
	payload []byte // of a small item
	why     error  // its bytes are not there; nil: they are
}

// apply restores some lines: first the bytes of all items, at once, then their rows, in their order, in one commit.
func (s *restoring) apply(ctx context.Context, part []*restored) error {
	if len(part) == 0 {
		return ctx.Err()
	}
	workers, workCtx := errgroup.WithContext(ctx)
	workers.SetLimit(4 * runtime.GOMAXPROCS(0)) // most of them wait for a sync
	for _, r := range part {
		if r.Kind == kindItem || r.Kind == kindRemoved {
			workers.Go(func() error { return s.take(workCtx, r) })
		}
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	var muts []index.Mutation
	for _, r := range part {
		muts = append(muts, r.mutations()...)
	}
	if _, err := s.index.Apply(ctx, muts...); err != nil {
		return fmt.Errorf("restore the rows of %d items: %w", len(part), err)
	}
	for _, r := range part {
		if r.item.Ref != "" && r.why == nil {
			if err := s.store.Settle(blobstore.Ref(r.item.Ref)); err != nil {
				return err
			}
		}
	}
	return nil
}

// take gets the bytes of an item, durably where they do not go into the log with its row. An item whose bytes are not in the backup has
// a reference to nothing; what is in the trash is left out then.
func (s *restoring) take(ctx context.Context, r *restored) (err error) {
	if r.item, err = r.line.item(); err != nil {
		return err // line.check has looked
	}
	if r.why = r.whyNot(); r.why == nil {
		r.why = statFile(ctx, s.FS, filePath(s.Source, r.BLAKE3), r.line)
	}
	if r.why == nil {
		err = s.copy(ctx, r)
	}
	var wrong *wrongError
	switch {
	case errors.As(err, &wrong):
		r.why = wrong.why
	case err != nil:
		return fmt.Errorf("%s: %w", r.Key, transfer.Failed(err))
	}
	switch {
	case r.why != nil && r.Kind == kindRemoved:
		s.meter.Tell(r.Key, r.Size, fmt.Errorf("in the trash: %w", r.why), func() { s.report.Problems++ })
	case r.why != nil:
		s.meter.Tell(r.Key, r.Size, r.why, func() { s.report.Problems++ })
		r.item.Flags |= index.FlagMissing
		if r.BLAKE3 == "" {
			r.item.Flags |= index.FlagUnverified
		}
		ref, err := s.store.NewRef()
		r.item.Ref = string(ref)
		return err
	case r.Kind == kindRemoved:
		s.meter.Pass(r.Size, func() { s.report.Trash.Add(r.Size) })
	default:
		s.meter.Pass(r.Size, func() { s.report.Items.Add(r.Size) })
	}
	return nil
}

// wrongError says why what the backup has of an item is not its bytes.
type wrongError struct{ why error }

func (e *wrongError) Error() string { return e.why.Error() }

// copy copies the bytes of an item, and compares them with its hash before anything is made of them. Errors: *wrongError; those of the store.
func (s *restoring) copy(ctx context.Context, r *restored) error {
	file, err := s.FS.Open(filePath(s.Source, r.BLAKE3))
	if err != nil {
		return &wrongError{fmt.Errorf("it cannot be read: %w", vfs.WithoutPath(err))}
	}
	defer file.Close() // it is only read
	w, err := s.store.Create(ctx, r.Size)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := pour(ctx, w, file); err != nil {
		return err
	}
	if w.Size() != r.Size || w.BLAKE3() != r.item.BLAKE3 {
		return &wrongError{errNotIt}
	}
	if payload, _, ok := w.Small(); ok {
		r.payload = payload
		return nil
	}
	label, err := layout.EncodeLabel(s.list.Dialect, r.Key, r.item, r.Exempt)
	if err != nil {
		return err
	}
	ref, _, err := w.Commit(ctx, label)
	r.item.Ref = string(ref)
	return err
}

// pour copies a file of the backup to a blob. What the disk does not give is a *wrongError.
func pour(ctx context.Context, w io.Writer, file io.Reader) error {
	buffer := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, readErr := file.Read(buffer)
		if _, err := w.Write(buffer[:n]); err != nil {
			return err
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return &wrongError{fmt.Errorf("it cannot be read: %w", vfs.WithoutPath(readErr))}
		}
	}
}

// mutations are those that make a row of a line.
func (r *restored) mutations() []index.Mutation {
	at := time.UnixMilli(r.Modified)
	put := index.Put{
		Key: r.Key, Item: r.item, Payload: r.payload, IfAbsent: true, Limit: -1, Exempt: r.Exempt, Uncounted: r.Uncounted && !r.Exempt, Now: at, TrashUntil: at,
	}
	switch {
	case r.Kind == kindWriter:
		return []index.Mutation{index.RecordBackup{Writer: r.Key, At: at}}
	case r.Kind == kindDir:
		return []index.Mutation{index.MakeDir{Key: r.Key, Now: time.UnixMilli(r.Created)}}
	case r.Kind == kindItem:
		return []index.Mutation{put}
	case r.why != nil:
		return nil
	}
	return []index.Mutation{put, index.Delete{Key: r.Key, Now: time.UnixMilli(r.Removed), TrashUntil: time.UnixMilli(r.Expires)}}
}
