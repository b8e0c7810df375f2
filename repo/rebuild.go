package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
)

const (
	rebuiltFile = "index.db.rebuilt" // the new index, until it takes its place
	lostFile    = "index.db.lost"    // the index that was replaced
)

// RebuildOptions of Rebuild.
type RebuildOptions struct {
	// Replace allows an index that is there to be set aside (as index.db.lost).
	Replace bool
	// Progress, if set, is called now and then with the blobs looked at.
	Progress func(blobs int64)
}

// RebuildReport says what a rebuild found.
type RebuildReport struct {
	Snapshot   string // the index snapshot it began with; empty: none was usable
	Items      int64  // in the rebuilt index
	Bytes      int64
	Recovered  int64 // items that no snapshot knew, from what their blobs say
	Dropped    int64 // items of the snapshot whose blob is gone: they were deleted since
	Superseded int64 // blobs older than the item under their key; their files stay
	Unreadable int64 // blobs whose trailer is damaged; their files stay
}

// Rebuild makes the index of the repository in dir anew: from the newest index snapshot that can be read,
// and from what the blobs say of themselves. Nobody may have the repository open. It may bring
// deleted items back, and items that were moved since the snapshot under their former key. It
// loses no acknowledged one: where two blobs claim a key, the older is in the trash for rebuildGrace. Until its last step, a rename, nothing of the old state has changed; it can be repeated.
func Rebuild(ctx context.Context, env Environment, dir string, o RebuildOptions) (report RebuildReport, err error) {
	env = env.withDefaults()
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if _, err := env.FS.Stat(filepath.Join(dir, indexFile)); err == nil && !o.Replace {
		return report, invalid("the repository has an index; say that it is to be replaced")
	}
	// Held to the end, if it can be opened at all: who has the repository open would go on writing to the index set aside.
	current, err := index.Open(filepath.Join(dir, indexFile), index.Options{})
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, current.Close()) }()
	case errors.Is(err, index.ErrLocked):
		return report, errElsewhere
	}
	path := filepath.Join(dir, rebuiltFile)
	if err := ignoreMissing(env.FS.Remove(path)); err != nil {
		return report, fmt.Errorf("rebuild: %w", vfs.WithoutPath(err))
	}
	store, err := blobstore.Open(blobstore.Options{Dir: dir, FS: env.FS, Rand: env.Rand, Now: env.Now})
	if err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	defer store.Close()
	if report.Snapshot, err = startIndex(ctx, env, store, dir, path); err != nil {
		return report, err
	}
	ix, err := index.Open(path, env.Index)
	if err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	b := &rebuilder{ctx: ctx, env: env, store: store, index: ix, report: &report, progress: o.Progress, keys: make(map[string]bool)}
	err = b.run()
	counters := ix.Counters()
	report.Items, report.Bytes = counters.Items, counters.Bytes
	if err := errors.Join(err, ix.Close()); err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	return report, swapIndex(env.FS, dir)
}

// swapIndex puts the rebuilt index in its place, and the old one, if any, beside it.
func swapIndex(fsys vfs.FS, dir string) error {
	current := filepath.Join(dir, indexFile)
	if _, err := fsys.Stat(current); err == nil {
		if err := ignoreMissing(fsys.Remove(filepath.Join(dir, lostFile))); err != nil {
			return fmt.Errorf("rebuild: %w", vfs.WithoutPath(err))
		}
		// A second name first: there is no moment without an index under one of them.
		if err := fsys.Link(current, filepath.Join(dir, lostFile)); err != nil {
			return fmt.Errorf("rebuild: %w", vfs.WithoutPath(err))
		}
	}
	if err := fsys.Rename(filepath.Join(dir, rebuiltFile), current); err != nil {
		return fmt.Errorf("rebuild: %w", vfs.WithoutPath(err))
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("rebuild: %w", vfs.WithoutPath(err))
	}
	return nil
}

// startIndex makes the index to begin with: the newest snapshot that opens, else an empty one.
func startIndex(ctx context.Context, env Environment, store *blobstore.Store, dir, path string) (snapshot string, err error) {
	all, err := snapshots(env.FS, dir)
	if err != nil {
		return "", err
	}
	for _, s := range slices.Backward(all) {
		err := unpack(ctx, env.FS, filepath.Join(dir, snapshotDir, s.Name), path)
		if err == nil {
			var ix *index.Index
			if ix, err = index.Open(path, index.Options{}); err == nil {
				return s.Name, ix.Close()
			}
		}
		env.Logger.Warn("index snapshot is not usable", "snapshot", s.Name, "error", err)
		if err := errors.Join(ctx.Err(), ignoreMissing(env.FS.Remove(path))); err != nil {
			return "", err
		}
	}
	dialect, err := dialectOf(ctx, store)
	if err != nil {
		return "", err
	}
	id := make([]byte, 16)
	if _, err := io.ReadFull(env.Rand, id); err != nil {
		return "", fmt.Errorf("rebuild: %w", err)
	}
	return "", index.Create(path, firstMeta(dialect, id, env.Now()))
}

// firstMeta are the values every index begins with.
func firstMeta(dialect string, id []byte, now time.Time) map[string][]byte {
	return map[string][]byte{
		metaDialect: []byte(dialect),
		metaID:      []byte(hex.EncodeToString(id)),
		metaCreated: []byte(strconv.FormatInt(now.UnixMilli(), 10)),
	}
}

// dialectOf asks the blobs which protocol wrote them.
func dialectOf(ctx context.Context, store *blobstore.Store) (dialect string, err error) {
	found := errors.New("found")
	err = store.Walk(ctx, func(_ blobstore.Ref, text []byte, _ blobstore.Info, err error) error {
		if err != nil {
			return nil
		}
		if l, err := decodeLabel(text); err == nil {
			dialect = l.Dialect
			return found
		}
		return nil
	})
	if err == nil {
		return "", invalid("there is nothing to rebuild from: no index snapshot and no blob")
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

// rebuilder brings an index and the blobs together.
type rebuilder struct {
	ctx      context.Context
	env      Environment
	store    *blobstore.Store
	index    *index.Index
	report   *RebuildReport
	progress func(int64)
	batch    []index.Mutation
	keys     map[string]bool // of the batch
}

// rebuildGrace is how long an item can be restored that gave way to a newer blob of its key. It may not have
// been overwritten: it may have been moved away, or the newer be an upload that nobody was promised.
const rebuildGrace = 30 * 24 * time.Hour

// rebuildBatch is how many items one transaction takes in.
const rebuildBatch = 1000

func (b *rebuilder) run() error {
	if err := b.dropMissing(); err != nil {
		return err
	}
	refs, err := b.unknown()
	if err != nil {
		return err
	}
	for i, ref := range refs {
		if err := b.adopt(ref); err != nil {
			return err
		}
		if i%rebuildBatch == 0 {
			b.progress(int64(i))
		}
	}
	return b.flush()
}

// dropMissing removes items and trash rows whose blob is gone.
func (b *rebuilder) dropMissing() error {
	var gone []index.Mutation
	err := b.index.List(b.ctx, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		blob, err := b.store.Open(blobstore.Ref(e.Item.Ref), e.Item.Size)
		switch {
		case err == nil:
			return blob.Close()
		case errors.Is(err, blobstore.ErrNotFound):
			gone = append(gone, index.Delete{Key: e.Key, IfRef: e.Item.Ref, Now: b.env.Now(), TrashUntil: b.env.Now()})
			return nil
		case errors.Is(err, blobstore.ErrCorrupt):
			return nil // cut short: the scrubber will say so
		}
		return err
	})
	if err != nil {
		return err
	}
	b.report.Dropped = int64(len(gone))
	for part := range slices.Chunk(gone, rebuildBatch) {
		if _, err := b.index.Apply(b.ctx, part...); err != nil {
			return err
		}
	}
	var ids []string
	err = b.index.Trash(time.Time{}, func(removed index.Removed) error {
		blob, err := b.store.Open(blobstore.Ref(removed.Item.Ref), removed.Item.Size)
		if errors.Is(err, blobstore.ErrNotFound) {
			ids = append(ids, removed.ID)
			return nil
		}
		if err != nil {
			return nil
		}
		return blob.Close()
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(ids, rebuildBatch) {
		if _, err := b.index.Apply(b.ctx, index.PurgeTrash{IDs: part}); err != nil {
			return err
		}
	}
	return nil
}

// unknown lists the blobs that the index does not refer to, oldest first: a Ref begins with the
// time of its making. It holds 17 bytes for each.
func (b *rebuilder) unknown() (refs []blobstore.Ref, err error) {
	err = b.store.Walk(b.ctx, func(ref blobstore.Ref, _ []byte, _ blobstore.Info, err error) error {
		if err != nil {
			b.report.Unreadable++
			return nil
		}
		_, known, err := b.index.HasRef(string(ref))
		if !known && err == nil {
			refs = append(refs, ref)
		}
		return err
	})
	slices.SortFunc(refs, func(x, y blobstore.Ref) int { return bytes.Compare([]byte(x), []byte(y)) })
	return refs, err
}

// adopt makes a blob the item that its label names, unless a newer one is there.
func (b *rebuilder) adopt(ref blobstore.Ref) error {
	text, info, err := b.store.Label(ref)
	if err == nil {
		var l label
		if l, err = decodeLabel(text); err == nil {
			return b.adoptAs(ref, info, l)
		}
	}
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	b.report.Unreadable++
	return nil
}

func (b *rebuilder) adoptAs(ref blobstore.Ref, info blobstore.Info, l label) error {
	item := l.item()
	item.Ref, item.Size, item.BLAKE3 = string(ref), info.Size, info.BLAKE3
	if b.keys[l.Key] { // this batch brings an item of that key already: it must be seen first
		if err := b.flush(); err != nil {
			return err
		}
	}
	entry, err := b.index.Get(l.Key)
	if err == nil && !entry.Dir && entry.Item.Modified.After(item.Modified) {
		b.report.Superseded++
		return nil
	}
	b.report.Recovered++
	b.keys[l.Key] = true
	b.batch = append(b.batch, index.Put{
		Key: l.Key, Item: item, Limit: -1, Exempt: l.Exempt, Now: item.Modified, TrashUntil: b.env.Now().Add(rebuildGrace),
	})
	if len(b.batch) >= rebuildBatch {
		return b.flush()
	}
	return nil
}

// flush applies the batch; should one item of it not fit (a directory in its place), the others do.
func (b *rebuilder) flush() error {
	batch := b.batch
	b.batch = nil
	clear(b.keys)
	if len(batch) == 0 {
		return nil
	}
	_, err := b.index.Apply(b.ctx, batch...)
	var refused *index.GroupError
	if !errors.As(err, &refused) {
		return err
	}
	for _, m := range batch {
		if _, err := b.index.Apply(b.ctx, m); err != nil {
			if !errors.As(err, &refused) {
				return err
			}
			b.report.Recovered--
			b.report.Superseded++
			b.env.Logger.Warn("blob cannot be an item again", "key", m.(index.Put).Key, "error", err)
		}
	}
	return nil
}
