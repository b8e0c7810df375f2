package repo

import (
	"context"
	"errors"
	"time"

	"packhouse/index"
)

// What a compaction removes is kept for a while: a client with an older index may look for it. It is no item, is
// listed nowhere and does not count, but who asks for its key gets it, and then it is an item again. It is the first
// thing to go when the disk is short.

// Defaults of Settings.
const (
	DefaultCompactGrace = 48 * time.Hour
	DefaultCompactYoung = 48 * time.Hour
	MinCompactGrace     = time.Hour // less than that is raised to it
)

// keptUntil is how long something is kept that a compaction removes now.
func (r *Repository) keptUntil(now time.Time) time.Time {
	return now.Add(max(time.Duration(r.compactGrace.Load()), time.Duration(r.grace.Load()), MinCompactGrace))
}

// keptOverhead is what a kept pack takes of the disk beside its bytes, at most: the trailer, and the rest of a block.
const keptOverhead = 4 << 10

// recall makes what is kept under key an item again. ErrNotFound when nothing is. Where nothing can be written, of a
// disk that is full or has failed, the item is as it is kept.
func (r *Repository) recall(ctx context.Context, key string) (index.Entry, error) {
	if r.index.Counters().KeptItems == 0 {
		return index.Entry{}, ErrNotFound
	}
	kept, err := r.index.Kept(key)
	if err != nil {
		return index.Entry{}, r.translate(err)
	}
	results, err := r.apply(ctx, index.ReturnKept{Key: key, Now: r.env.Now(), Cause: r.ownCause()})
	switch {
	case err == nil:
		r.env.Logger.Info("a pack that a compaction had removed is back: a client requested it", "repository", r.Name(), "key", key)
		return index.Entry{Key: key, Item: *results[0].Moved}, nil
	case errors.Is(err, ErrNotFound):
		entry, err := r.index.Get(key) // another request was faster
		return entry, r.translate(err)
	case errors.Is(err, ErrReadOnly), errors.Is(err, ErrNoSpace), errors.Is(err, ErrIsDir), errors.Is(err, ErrNotDir):
		return index.Entry{Key: key, Item: kept.Item}, nil
	}
	return index.Entry{}, err
}

// Lookup is Stat for a client that wants the item at key: what is kept under it returns.
func (a *Access) Lookup(ctx context.Context, key string) (index.Entry, error) {
	entry, err := a.Row(ctx, key)
	if err == nil && entry.Item.Flags&index.FlagMissing != 0 {
		return index.Entry{}, ErrNotFound
	}
	return entry, err
}

// trimKept releases the oldest of what is kept, when that and what open plans hold is more than it may be. What
// the last plan found when it began is allowed in any case, as that plan may just have removed all of it.
func (r *Repository) trimKept(ctx context.Context, live int64) error {
	bound, _, err := r.heldBound()
	if err != nil {
		return err
	}
	c := r.index.Counters()
	over := c.OpenBytes + c.ReturnedBytes + c.KeptBytes - max(bound, live)
	if over <= 0 || c.KeptItems == 0 {
		return nil
	}
	// That may be because of somebody who compacts again and again so that nothing is left to go back to.
	_, err = r.releaseKept(ctx, over, time.Duration(r.grace.Load()), "more than open plans and they may hold")
	return err
}

// releaseKept gives up at least so many bytes of what is kept, the oldest first, if there are so many. Their files go
// later: where there is a grace, when that is over. why is for the log.
func (r *Repository) releaseKept(ctx context.Context, bytes int64, grace time.Duration, why string) (released Emptied, err error) {
	for released.Bytes < bytes {
		results, err := r.apply(ctx, index.ReleaseKept{Bytes: bytes - released.Bytes, Most: reclaimBatch, Now: r.env.Now(), Grace: grace})
		if err != nil {
			return released, err
		}
		if results[0].Items == 0 {
			break
		}
		released.Items += results[0].Items
		released.Bytes += results[0].Bytes
	}
	if released.Items > 0 {
		r.kick()
		what := "packs kept after compactions are deleted"
		if grace > 0 {
			what = "packs kept after compactions go to the trash"
		}
		r.env.Logger.Info(what, "repository", r.Name(), "why", why,
			"packs", released.Items, "bytes", released.Bytes)
	}
	return released, nil
}

// EmptyKept gives up all that is kept after compactions, and removes its files.
func (r *Repository) EmptyKept(ctx context.Context) (Emptied, error) {
	released, err := r.releaseKept(ctx, 1<<62, 0, "an administrator requested it")
	for err == nil {
		var gone int
		if gone, _, err = r.reclaimOnce(ctx); gone == 0 {
			break
		}
	}
	return released, r.translate(err)
}

// givesUpKept tells whether what is kept may go before its time, for want of space.
func (r *Repository) givesUpKept() bool { return r.writable() == nil && r.Guard().MinAge == 0 }

// spareDisk removes files of what is kept after compactions, in all repositories that share the disk, the oldest
// first, until so many bytes are free of them or nothing is kept any more. It returns whether any went.
func (r *Repository) spareDisk(bytes int64) bool {
	if r.disk.keptBytes() < bytes {
		return false // it would be in vain
	}
	ctx := context.Background() // a request must not end it half way: others wait for the same
	freed := int64(0)
	for freed < bytes {
		owner := r.disk.oldestKept()
		if owner == nil {
			break
		}
		released, err := owner.releaseKept(ctx, min(bytes-freed, 1<<30), 0, "the disk is short")
		if err != nil {
			r.env.Logger.Warn("packs kept after compactions could not be deleted", "repository", owner.Name(), "error", err)
		}
		if err != nil || released.Items == 0 {
			break
		}
		freed += released.Bytes
		for {
			gone, _, err := owner.reclaimOnce(ctx)
			if errors.Is(err, errPinned) && owner.unpin("the disk is short") {
				continue
			}
			if err != nil {
				r.env.Logger.Warn("expired items in the trash could not be deleted; retried later", "repository", owner.Name(), "error", err)
			}
			if gone == 0 || err != nil {
				break
			}
		}
	}
	return freed > 0
}

// Plans calls fn for the open plans, the oldest first. No transaction is held while fn runs.
func (r *Repository) Plans(fn func(index.Plan) error) error {
	return inPages(func(last *index.Plan, fn func(index.Plan) error) error {
		after := uint64(0)
		if last != nil {
			after = last.ID
		}
		return r.translate(r.index.PlansAfter(after, fn))
	}, fn)
}
