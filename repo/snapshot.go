package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sort"
	"time"

	"github.com/klauspost/compress/zstd"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// Snapshot is a compressed copy of the index.
type Snapshot struct {
	Name string // of its file, in the repository's snapshots/
	At   time.Time
	Size int64 // bytes, compressed
}

// Snapshot writes a compressed copy of the index, durably, and removes the oldest beyond keep (at least 1).
// The repository stays in use; the copy is one consistent state. The index is read whole first: of a damaged one no copy is
// made (ErrCorrupt), so that the sound ones from before it stay. Like an upload it leaves the reserve free (ErrNoSpace). A sync that
// fails makes the repository read-only (ErrReadOnly): no client was told of the copy, but it is the disk of all else.
func (r *Repository) Snapshot(ctx context.Context, keep int) (Snapshot, error) {
	r.snapshotMu.Lock()
	defer r.snapshotMu.Unlock()
	s, err := r.takeSnapshot(ctx)
	if err != nil {
		return Snapshot{}, fmt.Errorf("index snapshot: %w", vfs.WithoutPath(err))
	}
	all, err := snapshots(r.fs(), r.dir)
	if err != nil {
		return s, err
	}
	for _, old := range all[:max(len(all)-max(keep, 1), 0)] {
		if err := r.fs().Remove(filepath.Join(r.dir, layout.SnapshotDir, old.Name)); err != nil {
			return s, fmt.Errorf("remove old index snapshot: %w", vfs.WithoutPath(err))
		}
	}
	return s, nil
}

// takeSnapshot makes the copy that Snapshot describes, and removes none.
func (r *Repository) takeSnapshot(ctx context.Context) (Snapshot, error) {
	if err := r.soundIndex(ctx); err != nil {
		return Snapshot{}, err
	}
	dir := filepath.Join(r.dir, layout.SnapshotDir)
	if err := layout.MkdirAll(r.fs(), dir); err != nil {
		return Snapshot{}, err
	}
	if err := r.sweepSnapshots(dir); err != nil {
		return Snapshot{}, err
	}
	at := r.env.Now().UTC().Truncate(time.Millisecond)
	all, err := snapshots(r.fs(), r.dir)
	if err != nil {
		return Snapshot{}, err
	}
	if len(all) > 0 && !at.After(all[len(all)-1].At) {
		at = all[len(all)-1].At.Add(time.Millisecond) // the clock went back: the newest must sort as the newest
	}
	s := Snapshot{Name: layout.SnapshotName(at), At: at}
	temporary := filepath.Join(dir, s.Name+layout.SnapshotPart)
	if s.Size, err = r.writeSnapshot(ctx, temporary); err != nil {
		return Snapshot{}, errors.Join(err, layout.IgnoreMissing(r.fs().Remove(temporary)))
	}
	if err := r.fs().Rename(temporary, filepath.Join(dir, s.Name)); err != nil {
		return Snapshot{}, err
	}
	return s, r.fs().SyncDir(dir)
}

// soundIndex wants an index without a fault, all of which is on stable storage, on a disk without one: no older
// copy may go for one that such a disk took.
func (r *Repository) soundIndex(ctx context.Context) error {
	report, err := r.index.Check(ctx)
	if err != nil {
		return r.translate(err)
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("%w: the index: %s", ErrCorrupt, report.Problems[0])
	}
	return r.writable()
}

// sweepSnapshots removes what a crash left half-written.
func (r *Repository) sweepSnapshots(dir string) error {
	entries, err := r.fs().ReadDir(dir)
	for _, entry := range entries {
		if err == nil && layout.IsSnapshotPart(entry.Name()) {
			err = r.fs().Remove(filepath.Join(dir, entry.Name()))
		}
	}
	return err
}

func (r *Repository) writeSnapshot(ctx context.Context, name string) (size int64, err error) {
	space, err := r.reserveDisk(0, r.reserve.Load())
	if err != nil {
		return 0, err
	}
	defer space.end()
	f, err := r.fs().Create(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	counted := &countingWriter{ctx: ctx, w: f, space: space}
	compressor, err := zstd.NewWriter(counted, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	_, err = r.index.WriteTo(compressor)
	if err := errors.Join(err, compressor.Close()); err != nil {
		return 0, r.translate(err)
	}
	return counted.n, f.Sync()
}

// countingWriter counts, and stops when ctx ends or the disk has no more space.
type countingWriter struct {
	ctx   context.Context
	w     io.Writer
	n     int64
	space *diskReservation // nil: the disk is not looked at
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	if c.space != nil {
		if err := c.space.grow(int64(len(p))); err != nil {
			return 0, err
		}
		defer c.space.wrote(int64(len(p)))
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Snapshots lists the copies of the index, oldest first.
func (r *Repository) Snapshots() ([]Snapshot, error) { return snapshots(r.fs(), r.dir) }

func snapshots(fsys vfs.FS, dir string) ([]Snapshot, error) {
	entries, err := fsys.ReadDir(filepath.Join(dir, layout.SnapshotDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list index snapshots: %w", vfs.WithoutPath(err))
	}
	var all []Snapshot
	for _, entry := range entries {
		at, ok := layout.SnapshotTime(entry.Name())
		if !ok {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // removed since
		}
		all = append(all, Snapshot{Name: entry.Name(), At: at, Size: info.Size()})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}
