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

// trashLimit is how many bytes the trash may hold; negative: no limit.
func (l limits) trashLimit() int64 {
	if l.trash != 0 {
		return l.trash
	}
	return l.quota
}

// LimitChange is what becomes of a limit of the repository itself: so many bytes, as in Settings, or nil, so that the limit of the
// settings applies.
type LimitChange struct{ Bytes *int64 }

// LimitChanges are changes of limits that are made together; nil: a limit stays.
type LimitChanges struct {
	Quota, Trash *LimitChange
	// KeepTrash refuses with ErrDenied what would make the trash give way: while it has a grace time, it may hold no less
	// than before.
	KeepTrash bool
}

// ChangeLimits stores limits. They are durable when it returns, and apply from then on.
func (r *Repository) ChangeLimits(ctx context.Context, changes LimitChanges) error {
	r.settingsMu.Lock()
	defer r.settingsMu.Unlock()
	before, err := r.ownLimits(r.configured)
	if err != nil {
		return r.translate(err)
	}
	after := before
	var muts []index.Mutation
	for _, l := range []struct {
		meta       string
		change     *LimitChange
		configured int64
		value      *int64
	}{{metaQuota, changes.Quota, r.configured.quota, &after.quota}, {metaTrashQuota, changes.Trash, r.configured.trash, &after.trash}} {
		if l.change == nil {
			continue
		}
		set := index.SetMeta{Name: l.meta}
		*l.value = l.configured
		if bytes := l.change.Bytes; bytes != nil {
			*l.value, set.Value = *bytes, strconv.AppendInt(nil, *bytes, 10)
		}
		muts = append(muts, set)
	}
	had, has := before.trashLimit(), after.trashLimit()
	if changes.KeepTrash && has >= 0 && (had < 0 || has < had) && r.grace.Load() > 0 {
		return Errorf(ErrDenied, "the trash could hold less than before, and what can still be restored would be removed before its time")
	}
	if _, err := r.apply(ctx, muts...); err != nil {
		return err
	}
	return r.translate(r.useLimits())
}

// SetQuota stores a limit in the repository, in bytes; negative means none. It is durable when it returns, and applies from
// then on.
func (r *Repository) SetQuota(ctx context.Context, limit int64) error {
	return r.ChangeLimits(ctx, LimitChanges{Quota: &LimitChange{&limit}})
}

// UnsetQuota removes the limit that SetQuota stored, so that the limit of the settings applies. It is durable when it returns.
func (r *Repository) UnsetQuota(ctx context.Context) error {
	return r.ChangeLimits(ctx, LimitChanges{Quota: &LimitChange{}})
}

// SetTrashQuota is SetQuota for what the trash may hold.
func (r *Repository) SetTrashQuota(ctx context.Context, limit int64) error {
	return r.ChangeLimits(ctx, LimitChanges{Trash: &LimitChange{&limit}})
}

// UnsetTrashQuota is UnsetQuota for what the trash may hold.
func (r *Repository) UnsetTrashQuota(ctx context.Context) error {
	return r.ChangeLimits(ctx, LimitChanges{Trash: &LimitChange{}})
}
