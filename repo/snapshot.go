package repo

import (
	"context"
	"fmt"
	"io"

	"packhouse/blobstore/vfs"
	"packhouse/repo/recovery"
)

// Snapshot writes a compressed copy of the index, durably, and removes the oldest copies beyond keep (at least 1). The repository stays
// in use; the copy is one consistent state. The whole index is checked first: if it is damaged no copy is written (ErrCorrupt), so that
// the older undamaged copies stay. Like an upload it leaves the reserve free (ErrNoSpace). A failed sync makes the repository read-only
// (ErrReadOnly), because the copy is on the same disk as everything else.
func (r *Repository) Snapshot(ctx context.Context, keep int) (recovery.Snapshot, error) {
	r.snapshotMu.Lock()
	defer r.snapshotMu.Unlock()
	if err := r.soundIndex(ctx); err != nil {
		return recovery.Snapshot{}, fmt.Errorf("index snapshot: %w", vfs.WithoutPath(err))
	}
	space := &diskReservation{r: r, keep: r.reserve.Load()}
	defer space.end()
	return recovery.Take(ctx, recovery.Source{
		Dir: r.dir, FS: r.fs(), Now: r.env.Now,
		Copy: func(w io.Writer) error {
			_, err := r.index.WriteTo(w)
			return r.translate(err)
		},
		Reserve: func(bytes int64) (func(), error) {
			return func() { space.wrote(bytes) }, space.grow(bytes)
		},
	}, keep)
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
