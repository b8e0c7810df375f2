package repo

import "context"

// ReclaimSome is one round of the reclaimer.
func (r *Repository) ReclaimSome(ctx context.Context) error { return r.reclaimSome(ctx) }
