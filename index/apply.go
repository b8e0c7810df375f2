package index

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"
)

// apply carries out a group. On error the caller undoes it.
func (t *tx) apply(muts []Mutation) ([]Result, error) {
	results := make([]Result, len(muts))
	t.began = math.MinInt64
	if c, err := t.total(); err == nil { // else who counts finds out
		t.began = c.Counted()
	}
	t.nested, t.beganCharges = false, t.charges
	for i, m := range muts {
		r, err := t.one(m)
		if err != nil {
			return nil, &GroupError{Position: i, Result: r, Err: err}
		}
		results[i] = r
	}
	return results, nil
}

func (t *tx) one(m Mutation) (r Result, err error) {
	switch m := m.(type) {
	case Put:
		return t.putItem(m)
	case Delete:
		return t.deleteItem(m)
	case Move:
		return t.moveItem(m)
	case Require:
		return r, t.require(m)
	case MakeDir:
		return r, firstError(t.ensureDir(m.Key, m.Now), t.admitCharges(m.MaxCharges, false))
	case RemoveDir:
		return r, t.removeDir(m)
	case Restore:
		return t.restore(m)
	case PurgeTrash:
		return r, t.purge(m)
	case ClearDirs:
		return t.clearDirs(m)
	case SetFlags:
		return t.setFlags(m)
	case Relocate:
		return r, t.relocate(m)
	case SetMeta:
		t.setMeta(m)
	case TakeBackBackup:
		t.takeBackBackup(m)
	case RecordBackup:
		t.recordPastBackup(m)
	case MarkCommit:
		_, mark, err := t.commitTotal(&m.Class)
		if err != nil {
			return r, err
		}
		return r, t.markCommit(&m.Class, mark, m.Limit)
	case AcquireLock:
		return t.acquireLock(m)
	case ReleaseLock:
		return t.releaseLock(m)
	case ExpireLocks:
		return r, t.expireLocks(m)
	case PutJob:
		return r, t.putJob(m)
	case DeleteJob:
		t.remove(t.jobs, []byte(m.ID))
	case OpenPlan:
		return t.openPlan(m)
	case ProvePlan:
		return t.provePlan(m)
	case EndPlans:
		return t.endPlans(m)
	case ReturnKept:
		return t.returnKept(m)
	case ReturnSince:
		return t.returnSince(m)
	case ReleaseKept:
		return t.releaseKept(m)
	case Found:
		return r, t.found(m)
	case Redate:
		return t.redate(m)
	case ForgetChanges:
		return t.forgetChanges(m)
	default:
		return r, fmt.Errorf("%w: unknown mutation %T", ErrInvalid, m)
	}
	return r, nil
}

// itemAt returns the item at key, nil when there is none, ErrIsDir for a directory.
func (t *tx) itemAt(key string) (*Item, error) {
	value, dir := t.items.itemOrDir(rowKey(key))
	switch {
	case dir != nil:
		return nil, ErrIsDir
	case value == nil:
		return nil, nil
	}
	item, err := decodeItem(value)
	if err != nil {
		return nil, err
	}
	return &item, nil
}

// attach makes key the item, where none is: its rows, its parents, its count, its place among the sources of its
// plan. What is kept under the key is released: a key has one of the two. It goes to the trash, for as long as an item that is replaced
// now would: until.
func (t *tx) attach(key string, item *Item, now, until time.Time) error {
	if err := t.ensureDir(parentOf(key), now); err != nil {
		return err
	}
	row := rowKey(key)
	if err := t.releaseKeptAt(row, later(now, until)); err != nil {
		return err
	}
	t.set(t.items, row, encodeItem(item))
	t.set(t.refs, []byte(item.Ref), encodeRef(itemTarget(item.Ref, row)))
	if err := t.countSource(row, item, +1); err != nil {
		return err
	}
	if err := t.chargeItem(row, item, +1); err != nil {
		return err
	}
	return t.count(key, item, +1)
}

// detach takes the item from key. Its ref has no item until the caller gives it one.
func (t *tx) detach(key string, item *Item) error {
	row := rowKey(key)
	t.set(t.items, row, nil)
	if err := t.countSource(row, item, -1); err != nil {
		return err
	}
	if err := t.chargeItem(row, item, -1); err != nil {
		return err
	}
	return t.count(key, item, -1)
}

// itemUnder is itemAt for an item that is about to be stored at key: directories that hold no item give way to it.
func (t *tx) itemUnder(key string) (*Item, error) {
	item, err := t.itemAt(key)
	if !errors.Is(err, ErrIsDir) {
		return item, err
	}
	rows, err := emptyDirs(t.items, key)
	for _, row := range rows {
		if err := t.setDir(row, nil); err != nil {
			return nil, err
		}
	}
	return nil, err
}

func (t *tx) putItem(m Put) (r Result, err error) {
	r.Previous, err = t.itemUnder(m.Key)
	if err != nil {
		return r, err
	}
	if m.IfAbsent && r.Previous != nil {
		return r, ErrExists
	}
	if m.IfRef != "" && (r.Previous == nil || r.Previous.Ref != m.IfRef) {
		return r, ErrConflict
	}
	if m.Payload != nil {
		at, err := t.place(m.Payload)
		if err != nil {
			return r, err
		}
		m.Item.Ref = at.Ref()
	}
	if t.refs.Get([]byte(m.Item.Ref)) != nil {
		return r, errRefUsed
	}
	if m.Payload == nil {
		if err := t.adopt(m.Item.Ref, m.Place); err != nil {
			return r, err
		}
	}
	var mark int64
	if m.Commit != nil {
		if _, mark, err = t.commitTotal(m.Commit); err != nil {
			return r, err
		}
	}

	item := m.Item
	item.Modified, item.Plan, item.Found = m.Now, 0, time.Time{}
	item.Flags &^= FlagExempt | FlagReturned
	switch {
	case m.Exempt:
		item.Flags |= FlagExempt
	case m.Uncounted:
		item.Flags |= FlagReturned
	}
	if r.Previous != nil {
		item.Created = r.Previous.Created
		if !m.Exempt && r.Previous.uncounted() && r.Previous.Size == item.Size && r.Previous.BLAKE3 == item.BLAKE3 {
			item.Flags |= FlagReturned // the same bytes again
		}
		if r.TrashID, err = t.discard(m.Key, r.Previous, m.Now, m.TrashUntil, m.TrashBound); err != nil {
			return r, err
		}
	} else if item.Created.IsZero() {
		item.Created = m.Now
	}
	if err := t.attach(m.Key, &item, m.Now, m.TrashUntil); err != nil {
		return r, err
	}
	r.Moved = &item
	if m.Backup {
		t.recordBackup(item.Writer, m.Now)
	}
	if err := t.recordChange(m.Cause, m.Now, &item, stored(m.Key, &item, r.Previous)); err != nil {
		return r, err
	}
	if err := t.admitPut(&m, &item, mark); err != nil {
		return r, err
	}
	return r, t.admitPutCharges(&m, mark)
}

func (t *tx) deleteItem(m Delete) (r Result, err error) {
	r.Previous, err = t.itemAt(m.Key)
	if err != nil {
		return r, err
	}
	if r.Previous == nil {
		// To its client it is there: GET and HEAD say so.
		if !m.Keep && m.IfRef == "" {
			if r.Previous, err = t.keptItem(rowKey(m.Key)); err != nil || r.Previous != nil {
				return r, errors.Join(err, t.releaseKeptAt(rowKey(m.Key), m.TrashUntil))
			}
		}
		if m.IgnoreMissing {
			return r, nil
		}
		return r, ErrNotFound
	}
	if m.IfRef != "" && r.Previous.Ref != m.IfRef {
		return r, ErrConflict
	}
	if !m.IfBefore.IsZero() && !(r.Previous.Modified.Before(m.IfBefore) && r.Previous.Found.Before(m.IfBefore)) {
		return Result{}, nil
	}
	if err := t.recordChange(m.Cause, m.Now, r.Previous, removal(m.Key, r.Previous)); err != nil {
		return r, err
	}
	if m.Keep {
		return r, t.keep(m.Key, r.Previous, m.Now, m.TrashUntil, false, m.By)
	}
	r.TrashID, err = t.discard(m.Key, r.Previous, m.Now, m.TrashUntil, m.TrashBound)
	return r, err
}

func (t *tx) moveItem(m Move) (r Result, err error) {
	was, err := t.itemAt(m.From)
	if err != nil {
		return r, err
	}
	if was == nil {
		return r, ErrNotFound
	}
	if m.From == m.To {
		return Result{Moved: was}, nil
	}
	r.Previous, err = t.itemUnder(m.To)
	if err != nil {
		return r, err
	}
	if r.Previous != nil {
		if m.IfAbsent {
			return r, ErrExists
		}
		if r.TrashID, err = t.discard(m.To, r.Previous, m.Now, m.TrashUntil, m.TrashBound); err != nil {
			return r, err
		}
	}
	item := *was
	if !m.Exempt {
		item.Flags &^= FlagExempt
	}
	r.Moved, r.Begins = &item, item.Counted()-was.Counted()
	// While From is still an item, so that it cannot become a parent of To; and its plan, of which it may be the last
	// source, is not closed in between.
	if err := t.attach(m.To, &item, m.Now, m.TrashUntil); err != nil {
		return r, err
	}
	leaves := m.Commit != nil && m.Commit.Has(m.From) && !m.Commit.Has(m.To) && item.Counted() > 0
	if err := firstError(t.detach(m.From, was), t.admitCharges(m.MaxCharges, false)); err != nil {
		return r, err
	}
	if err := t.recordChange(m.Cause, m.Now, &item, moved(&m, &item, r.Previous)); err != nil || r.Begins == 0 && !leaves {
		return r, err
	}
	return r, t.checkLimit(&item, m.Limit)
}

func (t *tx) require(m Require) error {
	value := t.items.Get(rowKey(m.Key))
	if value == nil {
		return ErrNotFound
	}
	item, err := decodeItem(value)
	if err != nil {
		return err
	}
	if item.Ref != m.Ref {
		return ErrConflict
	}
	return nil
}

func (t *tx) setFlags(m SetFlags) (r Result, err error) {
	row := rowKey(m.Key)
	value := t.items.Get(row)
	if value == nil {
		return r, ErrConflict
	}
	item, err := decodeItem(value)
	if err != nil {
		return r, err
	}
	if item.Ref != m.Ref {
		return r, ErrConflict
	}
	before := item
	if m.BLAKE3 != nil {
		if item.Flags&FlagUnverified == 0 {
			return r, ErrConflict
		}
		item.BLAKE3 = *m.BLAKE3
	}
	item.Flags = item.Flags&^(m.Clear&^ownFlags) | m.Set&^ownFlags
	r.Delta = item.Counted() - before.Counted()
	t.put(t.items, row, encodeItem(&item))
	return r, t.recount(m.Key, &before, &item)
}

// ensureDir makes key a directory, with its parents; the root is one.
func (t *tx) ensureDir(key string, now time.Time) error {
	if key == "" {
		return nil
	}
	row := dirRow(key)
	if t.items.Get(row) != nil {
		return nil // and so do its parents exist
	}
	if t.items.Get(row[:len(row)-1]) != nil {
		return ErrNotDir
	}
	if err := t.ensureDir(parentOf(key), now); err != nil {
		return err
	}
	return t.setDir(row, encodeDir(now))
}

// maxEmptyDirs is how many directories give way to one item: they are rows of its commit.
const maxEmptyDirs = 4096

// emptyDirs returns the rows of the directory at key and of those below it. ErrIsDir: there is an item among them; ErrManyDirs: there are
// too many.
func emptyDirs(items *table, key string) (rows [][]byte, err error) {
	rows, next, err := firstDirs(items, key, maxEmptyDirs)
	if next != nil {
		err = ErrManyDirs
	}
	return rows, err
}

// firstDirs returns so many of the rows of the directory at key and of those below it, and the next one; nil: there is none. ErrIsDir: there
// is an item among them.
func firstDirs(items *table, key string, most int) (rows [][]byte, next []byte, err error) {
	top := dirRow(key)
	c := items.Cursor()
	for row, _ := c.Seek(top); bytes.HasPrefix(row, top); row, _ = c.Next() {
		switch {
		case !isDirRow(row):
			return nil, nil, ErrIsDir
		case len(rows) == most:
			return rows, bytes.Clone(row), nil
		}
		rows = append(rows, bytes.Clone(row))
	}
	return rows, nil, nil
}

// clearDirs leaves the parents of the row at which it ends: rows come before those below them.
func (t *tx) clearDirs(m ClearDirs) (r Result, err error) {
	rows, next, err := firstDirs(t.items, m.Key, maxEmptyDirs)
	for _, row := range rows {
		if bytes.HasPrefix(next, row) {
			continue
		}
		if err := t.setDir(row, nil); err != nil {
			return r, err
		}
		r.Items++
	}
	return r, err
}

func (t *tx) removeDir(m RemoveDir) error {
	row := dirRow(m.Key)
	if t.items.Get(row) == nil {
		if t.items.Get(row[:len(row)-1]) != nil {
			return ErrNotDir
		}
		return ErrNotFound
	}
	c := t.items.Cursor()
	c.Seek(row)
	if next, _ := c.Next(); bytes.HasPrefix(next, row) {
		return ErrNotEmpty
	}
	return t.setDir(row, nil)
}
