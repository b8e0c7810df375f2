package repo

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"packhouse/index"
)

// lastHold remembers since when what was removed is held by Guard.KeepLast. The zero value works.
type lastHold struct {
	mu     sync.Mutex    // held over one look
	looked time.Time     // zero: not yet
	took   time.Duration // guarded by mu
	since  time.Time     // guarded by mu
	held   bool          // by a snapshot; false: by the time of the look only
}

// A look at the snapshots and the trash serves the reclaimer for heldFresh, and whoever asks for heldShown; each for heldShare times as long as it
// took, so that whoever asks again and again does not keep a processor busy.
const (
	heldFresh = time.Minute
	heldShown = time.Second
	heldShare = 10
)

// forget has the next to ask look again.
func (h *lastHold) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looked = time.Time{}
}

// A hold tells which rows of the trash stay although their grace time is over. The zero value holds none.
type hold struct {
	since time.Time // what was removed at that time or later is held; zero: nothing is
	by    bool      // by a snapshot
}

// What has had no grace time is not held: exempt items, and what a commit key replaces while the trash is beyond its bound, which would else have none.
func (h hold) holds(row *index.Removed) bool {
	return !h.since.IsZero() && !row.At.Before(h.since) && row.Expires.After(row.At) && row.Item.Flags&index.FlagExempt == 0
}

// hold is what Guard.KeepLast holds now: what was removed at the same time as one of the last snapshots that were removed, or after that. What was
// removed after the look is held, too, until the next one: it is not known yet.
func (r *Repository) hold(ctx context.Context) (hold, error) { return r.lookHold(ctx, heldFresh) }

// lookHold is hold by a look that is not older than fresh, if it did not take long.
func (r *Repository) lookHold(ctx context.Context, fresh time.Duration) (hold, error) {
	keep := r.Guard().KeepLast
	if keep == 0 || r.snapshots.dir == "" || !r.GuardLifted().IsZero() {
		return hold{}, nil
	}
	h := &r.guard.last
	h.mu.Lock()
	defer h.mu.Unlock()
	now := r.env.Now()
	if h.looked.IsZero() || now.Sub(h.looked) >= max(fresh, heldShare*h.took) || now.Before(h.looked) {
		at := r.changes.begins(now)
		removed, err := r.lastRemoved(ctx, keep)
		if err != nil {
			return hold{}, err
		}
		h.looked, h.took, h.since, h.held = now, r.env.Now().Sub(now), at, false
		if removed != nil {
			if first := time.UnixMilli(removed.removed); first.Before(at) {
				h.since, h.held = first, true
			}
		}
	}
	return hold{since: h.since, by: h.held}, nil
}

// A comer is one of the snapshots that came last.
type comer struct {
	ref     string // of its bytes, which it keeps when it is renamed or removed
	key     string
	at      int64 // Unix ms
	removed int64 // 0: it was not
}

// comers are the snapshots that came last, so many of each principal.
type comers struct {
	keep int64
	last map[string][]comer // by principal, the newest first
}

// note takes account of a snapshot, which may have been seen before, under another key or before it was removed: it counts once.
func (l *comers) note(key string, item *index.Item, removed int64) {
	c, of := comer{item.Ref, key, arrived(item), removed}, l.last[item.Writer]
	if int64(len(of)) == l.keep && c.at < of[l.keep-1].at {
		return
	}
	i, _ := slices.BinarySearchFunc(of, c.at, func(o comer, at int64) int { return cmp.Compare(at, o.at) })
	for j := i; j < len(of) && of[j].at == c.at; j++ {
		if of[j].ref == c.ref {
			of[j].removed = max(of[j].removed, removed)
			return
		}
	}
	of = slices.Insert(of, i, c)
	l.last[item.Writer] = of[:min(int64(len(of)), l.keep)]
}

// firstRemoved is that of them which was removed first; nil: none was.
func (l *comers) firstRemoved() (first *comer) {
	for _, of := range l.last {
		for i := range of {
			if c := &of[i]; c.removed != 0 && (first == nil || c.removed < first.removed) {
				first = c
			}
		}
	}
	return first
}

// lastRemoved is the first to be removed of those snapshots that are among the last of their principal, so many of each; nil: none of them was.
func (r *Repository) lastRemoved(ctx context.Context, keep int64) (*comer, error) {
	l := comers{keep, make(map[string][]comer)}
	err := r.rows(ctx, index.ListOptions{Dir: r.snapshots.dir, Recursive: true}, func(row *index.Row) error {
		entry, err := row.Entry()
		if err == nil && !entry.Dir {
			l.note(entry.Key, &entry.Item, 0)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, r.translate(err)
	}
	err = r.index.TrashAfter("", time.Time{}, func(row index.Removed) error {
		if r.snapshots.has(row.Key) && row.Item.Flags&index.FlagExempt == 0 {
			l.note(row.Key, &row.Item, max(1, row.At.UnixMilli()))
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, r.translate(err)
	}
	return l.firstRemoved(), nil
}

// HeldSince is since when what was removed stays restorable because of Guard.KeepLast, also when its grace time is over; zero: nothing does.
func (r *Repository) HeldSince(ctx context.Context) (time.Time, error) {
	h, err := r.lookHold(ctx, heldShown)
	if err != nil || !h.by {
		return time.Time{}, err
	}
	return h.since, nil
}
