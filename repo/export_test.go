package repo

import "context"

// ReclaimSome is one round of the reclaimer.
func (r *Repository) ReclaimSome(ctx context.Context) error { return r.reclaimSome(ctx) }

// Dir is the repository's directory.
func Dir(r *Repository) string { return r.dir }
