package recovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
)

// RebuildOptions of Rebuild. The zero value works.
type RebuildOptions struct {
	FS     vfs.FS           // nil means the operating system's
	Now    func() time.Time // nil means time.Now
	Rand   io.Reader        // nil means crypto/rand
	Logger *slog.Logger     // nil means silence
	Index  index.Options    // of the index that is made; for tests that fail commits
	// Replace allows an index that is there to be set aside (as index.db.lost).
	Replace bool
	// Progress, if set, is called now and then with the blobs looked at.
	Progress func(blobs int64)
}

func (o RebuildOptions) withDefaults() RebuildOptions {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	return o
}

// RebuildReport is the result of a rebuild.
type RebuildReport struct {
	Snapshot   string // the index snapshot it began with; empty: none was usable
	Items      int64  // in the rebuilt index, without those that are missing
	Bytes      int64
	Recovered  int64 // items that no snapshot knew, from what their blobs say
	Missing    int64 // items whose blob is gone: they were deleted since the snapshot, or lost; they are marked as missing
	Superseded int64 // blobs that gave way to a newer item of their key: they can be restored for 30 days
	Unreadable int64 // blobs whose trailer is damaged; their files stay

	// Replayed tells that the log had all that happened since the snapshot, so that items are what and where they were: none that was deleted is
	// back, and none that was moved is under its former key.
	Replayed bool
	Damaged  int64 // items in the log whose bytes are wrong; they are marked as damaged
	// LogDamaged counts the places where the log is damaged: what was said there is not known. The files with such places have a
	// second name each, beside the first, that ends with .lost.
	LogDamaged int64
}

// Rebuild builds a new index for the repository in dir, from the newest undamaged index snapshot and from the labels of the blobs. No
// process may have the repository open. It loses no acknowledged item. Deleted items may come back, and items that were moved since the
// snapshot may appear under their former key; items that were deleted together with their file are listed as missing. If two
// blobs have the same key, the older one is in the trash for rebuildGrace, and so is what was in the trash of the snapshot, because
// it may have been restored since. Until its last step, a rename, the old state is unchanged; it can be repeated.
//
// It fails if there is an index and Replace is not set, if another process has the index open (index.ErrLocked), and if the directory
// has neither a snapshot nor a blob.
func Rebuild(ctx context.Context, dir string, o RebuildOptions) (report RebuildReport, err error) {
	o = o.withDefaults()
	if _, err := o.FS.Stat(filepath.Join(dir, layout.IndexFile)); err == nil && !o.Replace {
		return report, errors.New("rebuild: the repository has an index; say that it is to be replaced")
	}
	if layout.IsAdopting(o.FS, dir) {
		return report, fmt.Errorf("rebuild: %w", errAdopting)
	}
	// Held to the end, if it can be opened at all: who has the repository open would go on writing to the index set aside.
	current, err := index.Open(filepath.Join(dir, layout.IndexFile), index.Options{Use: index.Hold})
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, current.Close()) }()
	case errors.Is(err, index.ErrLocked):
		return report, fmt.Errorf("rebuild: another process has the repository open; stop it first: %w", err)
	}
	path := filepath.Join(dir, layout.RebuiltFile)
	if err := layout.IgnoreMissing(o.FS.Remove(path)); err != nil {
		return report, fmt.Errorf("rebuild: %w", vfs.WithoutPath(err))
	}
	if o.Index.FS == nil {
		o.Index.FS = o.FS
	}
	store, err := blobstore.Open(blobstore.Options{Dir: dir, FS: o.FS, Rand: o.Rand, Now: o.Now})
	if err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	defer func() { _ = store.Close() }() // it was only read
	defer func() {
		if err == nil {
			return
		}
		// Perhaps the disk is full: what is of no use must not fill it.
		if err := layout.IgnoreMissing(o.FS.Remove(path)); err != nil {
			o.Logger.Warn("could not remove an unfinished index; the next rebuild removes it", "error", err)
		}
	}()
	if report.Snapshot, err = startIndex(ctx, o, store, dir, path); err != nil {
		return report, err
	}
	o.Index.Use = index.Rebuild
	ix, err := index.Open(path, o.Index)
	if err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	b := &rebuilder{ctx: ctx, o: o, dir: dir, index: ix, report: &report, keys: make(map[string]bool)}
	b.store, err = blobstore.Open(blobstore.Options{Dir: dir, FS: o.FS, Rand: o.Rand, Now: o.Now, Log: layout.Payloads{Index: ix}})
	if err == nil {
		defer func() { _ = b.store.Close() }() // likewise
		err = b.run()
	}
	counters := ix.Counters()
	report.Items, report.Bytes = counters.Items-counters.MissingItems, counters.Bytes-counters.MissingBytes
	report.Missing = counters.MissingItems
	if err := errors.Join(err, ix.Close()); err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	if err := PutInPlace(o.FS, dir); err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	return report, nil
}

// PutInPlace gives the index that was made as layout.RebuiltFile, and is closed, its name, durably. An index that is there gets another name beside it.
func PutInPlace(fsys vfs.FS, dir string) error {
	current := filepath.Join(dir, layout.IndexFile)
	if _, err := fsys.Stat(current); err == nil {
		if err := layout.IgnoreMissing(fsys.Remove(filepath.Join(dir, layout.LostFile))); err != nil {
			return vfs.WithoutPath(err)
		}
		// A second name first: there is no moment without an index under one of them.
		if err := fsys.Link(current, filepath.Join(dir, layout.LostFile)); err != nil {
			return vfs.WithoutPath(err)
		}
	}
	if err := fsys.Rename(filepath.Join(dir, layout.RebuiltFile), current); err != nil {
		return vfs.WithoutPath(err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return vfs.WithoutPath(err)
	}
	return nil
}

// startIndex makes the index to begin with: the newest snapshot that is whole, else an empty one. The index may have
// been damaged before it was lost, and its last copies with it.
func startIndex(ctx context.Context, o RebuildOptions, store *blobstore.Store, dir, path string) (snapshot string, err error) {
	all, err := Snapshots(o.FS, dir)
	if err != nil {
		return "", err
	}
	for _, s := range slices.Backward(all) {
		err := unpack(ctx, o.FS, filepath.Join(dir, layout.SnapshotDir, s.Name), path)
		if err == nil {
			err = checkIndex(ctx, path)
		}
		if err == nil {
			return s.Name, nil
		}
		o.Logger.Warn("index snapshot cannot be read; an older one is used if there is any", "snapshot", s.Name, "error", err)
		if err := errors.Join(ctx.Err(), layout.IgnoreMissing(o.FS.Remove(path))); err != nil {
			return "", err
		}
	}
	dialect, err := dialectOf(ctx, o, store, path)
	if err != nil {
		return "", err
	}
	var meta map[string][]byte
	if list, err := layout.OpenAdoptionList(o.FS, dir); err == nil { // where it was adopted from; not whether that was finished
		meta, err = originMeta(list.Adoption)
		if err = errors.Join(err, list.Close()); err != nil {
			return "", err
		}
	}
	return "", firstIndex(o, path, dialect, meta)
}

// checkIndex reads an index whole, and wants no fault in it.
func checkIndex(ctx context.Context, path string) error {
	ix, err := index.Open(path, index.Options{Use: index.Hold})
	if err != nil {
		return err
	}
	report, err := ix.Check(ctx)
	if err == nil && len(report.Problems) > 0 {
		err = fmt.Errorf("%w: %s", index.ErrCorrupt, report.Problems[0])
	}
	return errors.Join(err, ix.Close())
}

// dialectOf asks the log, the list of adopted files and the blobs which protocol wrote them. path is that of the new index.
func dialectOf(ctx context.Context, o RebuildOptions, store *blobstore.Store, path string) (dialect string, err error) {
	value, err := index.LogMeta(ctx, path, o.Index, layout.MetaDialect)
	if err != nil || value != nil {
		return string(value), err
	}
	if list, err := layout.OpenAdoptionList(o.FS, filepath.Dir(path)); err == nil {
		return list.Dialect, list.Close()
	}
	found := errors.New("found")
	err = store.Walk(ctx, func(_ blobstore.Ref, text []byte, _ blobstore.Info, err error) error {
		if err != nil {
			return nil
		}
		if l, err := layout.DecodeLabel(text); err == nil {
			dialect = l.Dialect
			return found
		}
		return nil
	})
	if err == nil {
		return "", errors.New("rebuild: there is nothing to rebuild from: no index snapshot and no blob")
	}
	if errors.Is(err, found) {
		return dialect, nil
	}
	return "", err
}

func unpack(ctx context.Context, fsys vfs.FS, from, to string) (err error) {
	in, err := fsys.Open(from)
	if err != nil {
		return vfs.WithoutPath(err)
	}
	defer in.Close()
	decompressor, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return err
	}
	defer decompressor.Close()
	out, err := fsys.Create(to)
	if err != nil {
		return vfs.WithoutPath(err)
	}
	_, err = io.Copy(&countingWriter{ctx: ctx, w: out}, decompressor)
	return errors.Join(err, out.Sync(), out.Close())
}
