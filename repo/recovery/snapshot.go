package recovery

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
	Name string // of its file, in the repository's directory of snapshots
	At   time.Time
	Size int64 // bytes, compressed
}

// Source is an index that is in use, and the directory for copies of it.
type Source struct {
	Dir string // of the repository
	FS  vfs.FS // in which the copies are written; it may refuse after a sync that failed
	Now func() time.Time
	// Copy writes one consistent state of the index.
	Copy func(w io.Writer) error
	// Reserve sets bytes of the disk aside, or refuses; written is called when they are in the file. It is asked for none
	// before the file is made.
	Reserve func(bytes int64) (written func(), err error)
}

// Take writes a compressed copy of the index, durably, and removes the oldest copies beyond keep (at least 1). The caller prevents a
// second Take of the same repository, and has checked that the index is undamaged, because the older copies may be the only undamaged
// ones. If it fails before the copy is durable, none was removed. Errors: those of Source, ctx.Err(), else I/O.
func Take(ctx context.Context, from Source, keep int) (Snapshot, error) {
	s, err := from.take(ctx)
	if err != nil {
		return Snapshot{}, fmt.Errorf("index snapshot: %w", vfs.WithoutPath(err))
	}
	all, err := Snapshots(from.FS, from.Dir)
	if err != nil {
		return s, err
	}
	for _, old := range all[:max(len(all)-max(keep, 1), 0)] {
		if err := from.FS.Remove(filepath.Join(from.Dir, layout.SnapshotDir, old.Name)); err != nil {
			return s, fmt.Errorf("remove old index snapshot: %w", vfs.WithoutPath(err))
		}
	}
	return s, nil
}

// take makes the copy that Take describes, and removes none.
func (from Source) take(ctx context.Context) (Snapshot, error) {
	dir := filepath.Join(from.Dir, layout.SnapshotDir)
	if err := layout.MkdirAll(from.FS, dir); err != nil {
		return Snapshot{}, err
	}
	if err := from.sweep(dir); err != nil {
		return Snapshot{}, err
	}
	at := from.Now().UTC().Truncate(time.Millisecond)
	all, err := Snapshots(from.FS, from.Dir)
	if err != nil {
		return Snapshot{}, err
	}
	if len(all) > 0 && !at.After(all[len(all)-1].At) {
		at = all[len(all)-1].At.Add(time.Millisecond) // the clock went back: the newest must sort as the newest
	}
	s := Snapshot{Name: layout.SnapshotName(at), At: at}
	temporary := filepath.Join(dir, s.Name+layout.SnapshotPart)
	if s.Size, err = from.write(ctx, temporary); err != nil {
		return Snapshot{}, errors.Join(err, layout.IgnoreMissing(from.FS.Remove(temporary)))
	}
	if err := from.FS.Rename(temporary, filepath.Join(dir, s.Name)); err != nil {
		return Snapshot{}, err
	}
	return s, from.FS.SyncDir(dir)
}

// sweep removes what a crash left half-written.
func (from Source) sweep(dir string) error {
	entries, err := from.FS.ReadDir(dir)
	for _, entry := range entries {
		if err == nil && layout.IsSnapshotPart(entry.Name()) {
			err = from.FS.Remove(filepath.Join(dir, entry.Name()))
		}
	}
	return err
}

func (from Source) write(ctx context.Context, name string) (size int64, err error) {
	if _, err := from.Reserve(0); err != nil {
		return 0, err
	}
	f, err := from.FS.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	counted := &countingWriter{ctx: ctx, w: f, reserve: from.Reserve}
	compressor, err := zstd.NewWriter(counted, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	err = from.Copy(compressor)
	if err := errors.Join(err, compressor.Close()); err != nil {
		return 0, err
	}
	return counted.n, f.Sync()
}

// countingWriter counts, and stops when ctx ends or the disk has no more space.
type countingWriter struct {
	ctx     context.Context
	w       io.Writer
	n       int64
	reserve func(bytes int64) (written func(), err error) // nil: the disk is not looked at
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	if c.reserve != nil {
		written, err := c.reserve(int64(len(p)))
		if err != nil {
			return 0, err
		}
		defer written()
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Snapshots lists the complete copies of the index of the repository in dir, oldest first.
func Snapshots(fsys vfs.FS, dir string) ([]Snapshot, error) {
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
