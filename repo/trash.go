package repo

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/keys"
)

// reclaimBatch is how many removed items one transaction forgets: enough to share
// its cost, few enough not to hold up writers.
const reclaimBatch = 1000

// reclaimPause is how long the reclaimer waits for more when it found less than a batch: each time it costs a group of the
// index, which those who delete would wait for.
const reclaimPause = 20 * time.Millisecond

// reclaim removes the blobs of items whose grace time is over: unlink first,
// then the trash row, so that a crash in between unlinks again and leaks nothing. And it removes what is old of the history.
func (r *Repository) reclaim(ctx context.Context) {
	var looked time.Time // when tidy was called last
	var hourly hourly
	for {
		wait, wake := time.Hour, r.wake
		if now := time.Now(); now.Sub(looked) > time.Minute {
			looked = now
			r.tidy(ctx, &hourly)
		}
		next, ok, err := r.nextExpiry()
		if ok {
			wait = next.Sub(r.env.Now())
		}
		switch {
		case err != nil:
			r.env.Logger.Error("could not read the trash", "error", err)
		case wait > 0:
			r.trimTrash()
		default:
			gone, held, err := r.reclaimOnce(ctx)
			switch {
			case err == nil && gone < reclaimBatch && held: // for long: nobody who removes something wakes it for another look at all of them
				r.trimTrash()
				wait, wake = time.Minute, nil
			case errors.Is(err, errPinned):
				wait, wake = time.Minute, r.unpinned()
			case err != nil:
				r.env.Logger.Warn("expired items in the trash could not be deleted; retried later", "error", err)
				wait = time.Minute
			case gone < reclaimBatch:
				wait, wake = reclaimPause, nil
			default:
				wait = 0
			}
		}
		timer := time.NewTimer(max(min(wait, time.Hour), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-wake:
			timer.Stop()
		}
	}
}

// wrongClock is by how much a clock may be ahead and nobody minds.
const wrongClock = time.Hour

// redate gives what was removed while the clock was ahead the expiry that it would have had: nobody waits for times that are
// far in the future.
func (r *Repository) redate(ctx context.Context) error {
	for {
		now := r.env.Now()
		longest := max(time.Duration(r.grace.Load()), time.Duration(r.compactGrace.Load()), MinCompactGrace)
		m := index.Redate{Now: now, Beyond: now.Add(longest + wrongClock), Most: reclaimBatch}
		if needs, err := r.index.NeedsRedate(m); err != nil || !needs {
			return r.translate(err)
		}
		results, err := r.apply(ctx, m)
		if err != nil || results[0].Items == 0 {
			return err
		}
		r.env.Logger.Warn("items were removed at a time in the future, because the clock was ahead; their grace time begins now",
			"repository", r.Name(), "items", results[0].Items)
	}
}

// hourly is about what is done once an hour because it may take a look at all of the trash.
type hourly struct {
	at   time.Time // when it was done last
	part int       // of the trash of which versions are thinned out next
}

// tidy removes what is old of the history, and once an hour corrects times in the future and thins out versions.
func (r *Repository) tidy(ctx context.Context, h *hourly) {
	if err := r.forgetChanges(ctx); err != nil {
		r.env.Logger.Warn("old changes could not be removed from the history; retried later", "repository", r.Name(), "error", err)
	}
	r.trimHistory(ctx)
	now := time.Now()
	if now.Sub(h.at) < time.Hour {
		return
	}
	h.at = now
	if err := r.redate(ctx); err != nil {
		r.env.Logger.Warn("times in the trash that are in the future could not be corrected; retried later", "repository", r.Name(), "error", err)
	}
	var emptied Emptied
	parts := r.thinParts()
	if err := r.thinVersions(ctx, h.part%parts, parts, &emptied); err != nil && ctx.Err() == nil {
		r.env.Logger.Warn("versions in the trash could not be thinned out; retried later", "repository", r.Name(), "error", err)
	}
	h.part = (h.part + 1) % parts
	if emptied.Items > 0 {
		r.env.Logger.Info("older versions of overwritten items were removed from the trash, but for the first that was replaced on each day", "repository", r.Name(),
			"items", emptied.Items, "bytes", emptied.Bytes)
	}
}

// nextExpiry is when something in the trash, or of what is kept, expires next.
func (r *Repository) nextExpiry() (next time.Time, ok bool, err error) {
	next, ok, err = r.index.NextExpiry()
	if err != nil || r.index.Counters().KeptItems == 0 {
		return next, ok, err
	}
	kept, some, err := r.index.NextKeptExpiry()
	if some && (!ok || kept.Before(next)) {
		return kept, true, err
	}
	return next, ok, err
}

// reclaimOnce removes up to reclaimBatch expired blobs, and says how many, and whether the guard holds others. What is kept goes through the
// trash: a file is unlinked only when nobody can ask for it any more.
func (r *Repository) reclaimOnce(ctx context.Context) (gone int, held bool, err error) {
	if next, ok, err := r.index.NextKeptExpiry(); err != nil {
		return 0, false, err
	} else if now := r.env.Now(); ok && !next.After(now) {
		if _, err := r.apply(ctx, index.ReleaseKept{Most: reclaimBatch, Now: now}); err != nil {
			return 0, false, err
		}
	}
	hold, err := r.hold(ctx)
	if err != nil {
		return 0, false, err
	}
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	enough := errors.New("enough")
	var rows []index.Removed
	err = r.index.Trash(r.env.Now().Add(1), func(removed index.Removed) error {
		if hold.holds(&removed) {
			held = true
			return nil
		}
		if rows = append(rows, removed); len(rows) == reclaimBatch {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return 0, held, err
	}
	purged, err := r.purge(ctx, rows)
	return len(purged), held, err
}

// purge unlinks the blobs of rows and then forgets them, but those whose blob cannot be unlinked. trashMu is
// held. It returns the rows that are gone. ErrBusy while a state is pinned.
func (r *Repository) purge(ctx context.Context, rows []index.Removed) ([]index.Removed, error) {
	if p := r.pinned.Load(); p != nil && len(rows) > 0 {
		p.waited.Store(true)
		return nil, errPinned
	}
	refs := make([]blobstore.Ref, len(rows))
	for i, row := range rows {
		refs[i] = refOf(row.Item)
	}
	// Of a failed index a row may be seen that the disk does not have: there the blob is still an item's. And the rows
	// of what is unlinked must be forgotten, which a repository that has failed otherwise refuses.
	if err := r.writable(); err != nil {
		return nil, err
	}
	// What a damaged index says is no reason to remove anything.
	if err := errors.Join(r.index.Damage(), r.index.Confirm(rows)); err != nil {
		return nil, r.translate(err)
	}
	removeErr := r.blobs.RemoveAll(refs)
	if removeErr != nil {
		if err := r.writable(); err != nil {
			return nil, err
		}
		// One file that cannot be unlinked must not keep the others' rows, and in time all that come after it.
		var gone []index.Removed
		for i, ref := range refs {
			if r.blobs.Remove(ref) == nil {
				gone = append(gone, rows[i])
			}
		}
		rows = gone
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	// Nor may ctx end it here: the bytes are gone.
	_, err := r.apply(context.WithoutCancel(ctx), index.PurgeTrash{IDs: ids})
	return rows, errors.Join(removeErr, err)
}

// Emptied is the result of EmptyTrash.
type Emptied struct {
	Items int64
	Bytes int64
}

// reaches tells whether e is at least as much as want.
func (e Emptied) reaches(want Emptied) bool { return e.Items >= want.Items && e.Bytes >= want.Bytes }

// everything is more than there can be.
var everything = Emptied{math.MaxInt64, math.MaxInt64}

// EmptyTrash removes for good what was removed before a time, regardless of its grace time, and checks ctx after every thousand items.
// If it fails, it reports what was removed until then. It removes first blobs, then rows, so that a crash in between leaves rows for
// which Restore returns ErrNotFound and which can be emptied again.
func (r *Repository) EmptyTrash(ctx context.Context, before time.Time) (Emptied, error) {
	var emptied Emptied
	goes := func(row *index.Removed) bool { return row.At.Before(before) }
	_, err := r.empty(ctx, everything, time.Time{}, goes, &emptied)
	return emptied, r.translate(err)
}

// empty removes for good those items of the trash of which goes says so, in the order in which they expire, until that is
// as much as want; with a time only such as expire before it. It adds to emptied what was removed, and returns whether it
// came to the end. ctx is checked after every thousand items.
func (r *Repository) empty(ctx context.Context, want Emptied, expire time.Time, goes func(*index.Removed) bool, emptied *Emptied) (ended bool, err error) {
	for after := ""; !emptied.reaches(want); {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if after, err = r.emptySome(ctx, after, want, expire, goes, emptied); err != nil || after == "" {
			return err == nil, err
		}
	}
	return false, nil
}

// emptyPage is how many rows emptySome looks at: until then nothing can be restored.
const emptyPage = 16 * reclaimBatch

// emptySome is empty for up to reclaimBatch of the rows behind the one with the ID after; last is the ID to go on with, ""
// at the end.
func (r *Repository) emptySome(
	ctx context.Context, after string, want Emptied, expire time.Time, goes func(*index.Removed) bool, emptied *Emptied,
) (last string, err error) {
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	enough := errors.New("enough")
	var rows []index.Removed
	looked, taken := 0, *emptied
	err = r.index.TrashAfter(after, expire, func(removed index.Removed) error {
		last = removed.ID
		if goes(&removed) {
			rows = append(rows, removed)
			taken.Items++
			taken.Bytes += removed.Item.Size
		}
		if looked++; looked == emptyPage || len(rows) == reclaimBatch || taken.reaches(want) {
			return enough
		}
		return nil
	})
	if err == nil {
		last = ""
	} else if !errors.Is(err, enough) {
		return "", err
	}
	if len(rows) == 0 {
		return last, nil
	}
	return last, r.purgeInto(ctx, rows, emptied)
}

// purgeInto is purge, and adds to emptied what is gone.
func (r *Repository) purgeInto(ctx context.Context, rows []index.Removed, emptied *Emptied) error {
	gone, err := r.purge(ctx, rows)
	for _, row := range gone {
		emptied.Items++
		emptied.Bytes += row.Item.Size
	}
	return err
}

// kick tells the reclaimer that the trash has changed.
func (r *Repository) kick() {
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Trash calls fn for every item that can be restored, in order of expiry. No transaction is held while fn runs.
func (r *Repository) Trash(fn func(index.Removed) error) error { return r.TrashAfter("", fn) }

// TrashAfter is Trash behind the row of an ID, which need not be there any more; "": from the first on. ErrInvalid if it is no ID.
func (r *Repository) TrashAfter(id string, fn func(index.Removed) error) error {
	return inPages(func(last *index.Removed, fn func(index.Removed) error) error {
		after := id
		if last != nil {
			after = last.ID
		}
		return r.translate(r.index.TrashAfter(after, time.Time{}, fn))
	}, fn)
}

// Restore moves a removed item back to key (empty: the key that it had). ErrNotFound if its grace time is over or its bytes are missing,
// ErrCorrupt if they are truncated, ErrExists if there is an item, ErrQuota as a *QuotaError if it no longer fits; it then stays in the
// trash. An item that was exempt counts after that, unless its key is for locks or sessions.
func (r *Repository) Restore(ctx context.Context, id, key string) (index.Item, error) {
	if key != "" {
		if err := keys.Check(key); err != nil {
			return index.Item{}, err
		}
	}
	r.trashMu.Lock()
	defer r.trashMu.Unlock()
	removed, held, err := r.restorable(ctx, id)
	if err != nil {
		return index.Item{}, err
	}
	if key == "" {
		key = removed.Key
	}
	if err := r.clearDirs(ctx, key); err != nil {
		return index.Item{}, err
	}
	server := r.As(Principal{})
	exempt := server.mayBeExempt(key, removed.Item.Size)
	restored := removed.Item
	if !exempt {
		restored.Flags &^= index.FlagExempt
	}
	res, err := server.reserveRestored(restored.Counted()) // beside what uploads under way may yet need
	if err != nil {
		// Where something is under the key, that is what keeps it from coming back.
		if entry, getErr := r.index.Get(key); getErr == nil && !entry.Dir {
			return index.Item{}, ErrExists
		}
		return index.Item{}, cmp.Or(r.translate(r.index.Vacant(key)), err)
	}
	defer res.release()
	now := r.env.Now()
	results, err := r.apply(ctx, index.Restore{
		ID: id, Held: held, Key: key, Exempt: exempt, Limit: server.limit(), MaxCharges: server.maxCharges(), Now: now, TrashUntil: r.trashUntil(now), Cause: r.ownCause(),
	})
	var refused *index.GroupError
	if errors.Is(err, index.ErrCharges) {
		return index.Item{}, server.chargesError()
	}
	if errors.Is(err, ErrQuota) && errors.As(err, &refused) && refused.Result.Moved != nil {
		return index.Item{}, r.quota.refusal(refused.Result.Moved.Size)
	}
	if err != nil {
		return index.Item{}, err
	}
	counted := results[0].Moved.Counted()
	res.commit(counted, r.commit.counts(key, counted))
	return *results[0].Moved, nil
}

// restorable wants the bytes of a row to be there: they are unlinked before it goes, and a crash in between, with
// a clock that is set back after it, leaves a row that has not expired. held: the guard holds it, also if it has expired.
func (r *Repository) restorable(ctx context.Context, id string) (removed index.Removed, held bool, err error) {
	removed, err = r.index.Removed(id)
	if err != nil {
		return removed, false, r.translate(err)
	}
	hold, err := r.hold(ctx)
	if err != nil {
		return removed, false, err
	}
	blob, err := r.blobs.Open(refOf(removed.Item), infoOf(removed.Item))
	if errors.Is(err, blobstore.ErrNotFound) {
		return removed, false, Errorf(ErrNotFound, "the bytes of this item are gone already")
	}
	if err != nil {
		return removed, false, r.translate(err)
	}
	return removed, hold.holds(&removed), r.translate(blob.Close())
}

func refOf(item index.Item) blobstore.Ref { return blobstore.Ref(item.Ref) }

// infoOf is what the index has recorded of an item's bytes.
func infoOf(item index.Item) blobstore.Info {
	info := blobstore.Info{Size: item.Size}
	if item.Flags&index.FlagUnverified == 0 {
		info.BLAKE3 = item.BLAKE3
	}
	return info
}
