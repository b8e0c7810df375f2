package repo

import (
	"context"
	"errors"
	"slices"

	"packhouse/index"
	"packhouse/repo/keys"
)

// Delete removes the item at key: into the trash for the grace time, then for good.
func (a *Access) Delete(ctx context.Context, key string) error {
	if err := keys.Check(key); err != nil {
		return err
	}
	if err := a.May(key, "D"); err != nil {
		return err
	}
	if done, err := a.uncache(ctx, key); done {
		return err
	}
	if _, err := a.Commit(ctx, Batch{Deletes: []BatchDelete{{Key: key}}}); err != nil {
		return err
	}
	a.itemChanged(ctx, key, true)
	return nil
}

// deletePart is how many items DeleteAll removes in one transaction: other writers wait for one part only, and memory is needed for one.
const deletePart = 2000

// DeleteAll removes the items of names, in several transactions if they are many, and returns how many existed; missing ones are
// skipped. If one key is not permitted, or the guard refuses the removal of one, nothing is removed. After another error the items of earlier transactions stay removed: the
// number is of those. A principal that is append-only must delete items one by one.
func (a *Access) DeleteAll(ctx context.Context, names []string) (deleted int, err error) {
	for _, key := range names {
		if err := keys.Check(key); err != nil {
			return 0, err
		}
	}
	if len(names) > 0 {
		if err := a.p.MayBatchDelete(names[0]); err != nil {
			return 0, err
		}
	}
	for _, key := range names {
		if err := a.May(key, "D"); err != nil {
			return 0, err
		}
	}
	if len(names) > deletePart { // else the first transaction finds that out
		if err := a.mayRemove(names); err != nil {
			return 0, err
		}
	}
	h := a.r.compactions.keys
	whole := h != nil && slices.Contains(names, h.config) // the plans end with the first part
	for part := range slices.Chunk(names, deletePart) {
		batch := Batch{Deletes: make([]BatchDelete, len(part)), whole: whole}
		for i, key := range part {
			batch.Deletes[i] = BatchDelete{Key: key, IgnoreMissing: true}
		}
		done, err := a.commit(ctx, batch)
		deleted += done.deleted
		if err != nil {
			return deleted, err
		}
		whole = false
	}
	return deleted, nil
}

// Move renames an item, and replaces one at the target, or a directory without items. It needs D on from, and w or W on to (W to
// replace).
//
// A lock or session that is exempt from the quota stays exempt if the new key is for locks or sessions too. With any other key it
// counts from then on and must fit (else *QuotaError), because a rename could otherwise circumvent the quota. An item that counts
// never becomes exempt. An item cannot be moved out of the commit keys while the quota is exceeded.
func (a *Access) Move(ctx context.Context, from, to string) error {
	for _, key := range []string{from, to} {
		if err := keys.Check(key); err != nil {
			return err
		}
	}
	if err := a.May(from, "D"); err != nil {
		return err
	}
	if err := a.May(to, "wW"); err != nil {
		return err
	}
	if copied(from) && copied(to) {
		a = a.at(from)
	}
	if err := a.move(ctx, from, to); err != nil {
		return a.r.refuse(err)
	}
	a.itemMoved(ctx, from, to)
	return nil
}

// move is Move behind the checks of keys and permissions.
func (a *Access) move(ctx context.Context, from, to string) error {
	at := a.r.changes.begin(a.r.env.Now())
	defer a.r.changes.end(at)
	now := *at
	mayReplace := a.May(to, "W") == nil
	if err := a.r.clearDirs(ctx, to); err != nil {
		return err
	}
	admitted := a.r.CommitKey(to) || ephemeral(to)
	if mayReplace {
		if err := a.admitReplaced(a.itemAt(to)); err != nil && !admitted {
			return err
		}
	}
	if err := a.admitChange(true); err != nil {
		return err
	}
	res, err := a.reserveMove(from, to, mayReplace)
	if err != nil {
		return err
	}
	defer res.release()
	more, guarded, err := a.guarded(func() []removal { return []removal{{key: from, to: to}} })
	if err != nil {
		return err
	}
	defer guarded(errAsked) // a panic must not keep it
	results, err := a.r.apply(ctx, append([]index.Mutation{index.Move{
		From: from, To: to, IfAbsent: !mayReplace, Exempt: ephemeral(to), Limit: a.limit(), MaxCharges: a.maxCharges(), Commit: a.r.commit.of(),
		TrashUntil: a.r.trashUntil(now), TrashBound: a.trashBound(admitted, now), Now: now, Cause: a.addingCause("", true),
	}}, more...)...)
	guarded(err)
	if errors.Is(err, index.ErrTrash) {
		return a.trashFull(itemSize(a.itemAt(to)))
	}
	if errors.Is(err, index.ErrHistory) {
		return a.historyFull()
	}
	if errors.Is(err, index.ErrCharges) {
		return a.chargesError()
	}
	if errors.Is(err, ErrExists) {
		return &DeniedError{Letters: "W", Key: to, Exists: true}
	}
	var refused *index.GroupError
	if errors.Is(err, ErrQuota) && errors.As(err, &refused) {
		return a.refusal(refused.Result.Begins)
	}
	if err != nil {
		return err
	}
	counted, added := results[0].Moved.Counted(), results[0].Begins
	commits := a.r.commit.counts(to, counted) - a.r.commit.counts(from, counted-added)
	if previous := results[0].Previous; previous != nil {
		added -= previous.Counted()
		commits -= a.r.commit.counts(to, previous.Counted())
		a.r.kick()
	}
	res.commit(added, commits)
	return nil
}

// reserveMove reserves what a move makes count, beside the uploads under way: an item that was exempt until then. It was
// exempt from the reserve of the disk too. Who may not do it, or cannot, learns that from the index.
func (a *Access) reserveMove(from, to string, mayReplace bool) (*quotaReservation, error) {
	none := a.noReservation()
	moved, err := a.r.index.Get(from)
	if err != nil || moved.Dir || moved.Item.Flags&index.FlagExempt == 0 || moved.Item.Size == 0 || ephemeral(to) {
		return none, nil
	}
	replaced, err := a.r.index.Get(to)
	if err == nil && (replaced.Dir && a.r.index.Vacant(to) != nil || !replaced.Dir && !mayReplace) {
		return none, nil
	}
	disk, err := a.r.reserveDisk(0, a.r.reserve.Load())
	if err != nil {
		return nil, err
	}
	disk.end() // the bytes are written
	return a.reserve(moved.Item.Size - replaced.Item.Counted())
}

// MakeDir creates a directory and its parents. It is no error if they exist.
func (a *Access) MakeDir(ctx context.Context, key string) error {
	if key != "" {
		if err := keys.Check(key); err != nil {
			return err
		}
	}
	if err := a.May(key, "w"); err != nil {
		return err
	}
	if key == "" {
		return nil
	}
	a = a.at(key)
	_, err := a.r.apply(ctx, index.MakeDir{Key: key, MaxCharges: a.maxCharges(), Now: a.r.env.Now()})
	if errors.Is(err, index.ErrCharges) {
		err = a.chargesError()
	}
	return a.r.refuse(err)
}

// RemoveDir removes an empty directory. The root cannot be removed: ErrNotEmpty while the
// repository has entries, else nothing happens.
func (a *Access) RemoveDir(ctx context.Context, key string) error {
	if key != "" {
		if err := keys.Check(key); err != nil {
			return err
		}
	}
	if err := a.May(key, "wD"); err != nil {
		return err
	}
	if key == "" {
		stop := errors.New("not empty")
		err := a.r.rows(ctx, index.ListOptions{}, func(*index.Row) error { return stop })
		if errors.Is(err, stop) {
			return ErrNotEmpty
		}
		return a.r.translate(err)
	}
	a = a.at(key)
	_, err := a.r.apply(ctx, index.RemoveDir{Key: key})
	return err
}
