package repo

import (
	"context"
	"fmt"
	"strconv"

	"packhouse/index"
)

// limits are those of a repository, as in Settings.
type limits struct{ quota, trash int64 }

// ownLimits are the limits that are stored in the repository, and others for what is not.
func (r *Repository) ownLimits(others limits) (limits, error) {
	for _, l := range []struct {
		meta  string
		value *int64
	}{{metaQuota, &others.quota}, {metaTrashQuota, &others.trash}} {
		text, err := r.index.Meta(l.meta)
		if err != nil {
			return limits{}, err
		}
		if text == nil {
			continue
		}
		if *l.value, err = strconv.ParseInt(string(text), 10, 64); err != nil {
			return limits{}, fmt.Errorf("meta value %s: %w", l.meta, index.ErrCorrupt)
		}
	}
	return others, nil
}

// useLimits has the limits apply that are stored, or else configured. settingsMu is held.
func (r *Repository) useLimits() error {
	own, err := r.ownLimits(r.configured)
	if err == nil {
		r.quota.setLimits(own.quota, own.trash)
		r.kick() // the trash may hold too much now
	}
	return err
}

// setLimit stores a limit under the name of its meta value, nil: none. It is durable when it returns, and applies from then on.
func (r *Repository) setLimit(ctx context.Context, meta string, limit *int64) error {
	r.settingsMu.Lock()
	defer r.settingsMu.Unlock()
	set := index.SetMeta{Name: meta}
	if limit != nil {
		set.Value = strconv.AppendInt(nil, *limit, 10)
	}
	if _, err := r.apply(ctx, set); err != nil {
		return err
	}
	return r.translate(r.useLimits())
}

// SetQuota stores a limit in the repository, in bytes; negative means none. It is durable when it returns, and applies from
// then on.
func (r *Repository) SetQuota(ctx context.Context, limit int64) error {
	return r.setLimit(ctx, metaQuota, &limit)
}

// UnsetQuota removes the limit that SetQuota stored, so that the limit of the settings applies. It is durable when it returns.
func (r *Repository) UnsetQuota(ctx context.Context) error { return r.setLimit(ctx, metaQuota, nil) }

// SetTrashQuota is SetQuota for what the trash may hold.
func (r *Repository) SetTrashQuota(ctx context.Context, limit int64) error {
	return r.setLimit(ctx, metaTrashQuota, &limit)
}

// UnsetTrashQuota is UnsetQuota for what the trash may hold.
func (r *Repository) UnsetTrashQuota(ctx context.Context) error {
	return r.setLimit(ctx, metaTrashQuota, nil)
}
