package repo

import "context"

// ReclaimSome is one round of the reclaimer.
func (r *Repository) ReclaimSome(ctx context.Context) error {
	return func() error { _, err := r.reclaimOnce(ctx); return err }()
}

// Dir is the repository's directory.
func Dir(r *Repository) string { return r.dir }

// Promised is the disk space that uploads and plans of the whole set have yet to fill, in bytes.
func Promised(r *Repository) int64 {
	r.room.mu.Lock()
	defer r.room.mu.Unlock()
	return r.room.promised
}
