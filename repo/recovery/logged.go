package recovery

import (
	"errors"
	"path/filepath"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo/layout"
)

// Items in the log come back from the log: it has their rows beside their bytes, and those of what was moved by a vacuum once more. Where it goes on from
// the snapshot without a gap the index takes all of its rows as they are, and nothing of this is needed.

// readLog lets the index take what the log has, and keeps what of it is damaged.
func (b *rebuilder) readLog() (index.LogReport, error) {
	log, err := b.index.ReadLog(b.ctx)
	if err != nil {
		return log, err
	}
	b.report.Replayed, b.report.LogDamaged = log.Exact, log.Damaged
	return log, b.keepDamaged(log.Segments)
}

// keepDamaged gives files of the log a second name, durably: when the index is in use they are removed as soon as nothing that is known lies in
// them.
func (b *rebuilder) keepDamaged(names []string) error {
	dir := filepath.Join(b.dir, index.LogDir)
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := layout.IgnoreExisting(b.o.FS.Link(path, path+layout.LostSuffix)); err != nil {
			return vfs.WithoutPath(err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return vfs.WithoutPath(b.o.FS.SyncDir(dir))
}

// adoptLogged takes in what the log says behind a gap, oldest first. What goes elsewhere leaves its key before anything comes to one: the
// order is that in which the log names items last, which says nothing of when they left their keys, and they may have changed places.
func (b *rebuilder) adoptLogged(all []index.Logged) error {
	for _, l := range all {
		if err := b.stepAside(l); err != nil {
			return err
		}
	}
	for _, l := range all {
		if err := b.adoptOne(l); err != nil {
			return err
		}
	}
	return b.flush()
}

// stepAside takes an item that the snapshot has under another key from that.
func (b *rebuilder) stepAside(l index.Logged) error {
	if l.State != index.LoggedItem {
		return nil
	}
	key, known, err := b.index.HasRef(l.Item.Ref)
	if err != nil || !known || key == l.Key {
		return err
	}
	if entry, err := b.index.Get(key); err != nil || entry.Dir || entry.Item.Ref != l.Item.Ref {
		return nil // it is in the trash, or kept
	}
	_, err = b.index.Apply(b.ctx, index.Move{From: key, To: aside(l.Item.Ref), Exempt: true, Limit: -1, Now: b.o.Now()})
	return err
}

// adoptOne makes an item of the log what the log says of it last.
func (b *rebuilder) adoptOne(l index.Logged) error {
	if err := b.flushFor(l.Key); err != nil {
		return err
	}
	key, known, err := b.index.HasRef(l.Item.Ref)
	switch {
	case err != nil:
		return err
	case known:
		return b.follow(l, key)
	case l.State == index.LoggedGone:
		return nil
	}
	err = b.index.PayloadAt(l.Place)
	switch {
	case errors.Is(err, index.ErrNotFound): // its segment went when nothing in it was needed, or is lost with all that it said
		return nil
	case err != nil:
		// The item was acknowledged: what is there under its key from before is not what it is.
		b.o.Logger.Warn("the bytes of an item in the log are wrong", "key", l.Key, "error", err)
		b.report.Damaged++
		l.Item.Flags |= index.FlagDamaged
	}
	return b.adoptItem(l)
}

// adoptItem stores an item that the index does not know.
func (b *rebuilder) adoptItem(l index.Logged) error {
	put := func(key string) index.Mutation {
		return index.Put{
			Key: key, Item: l.Item, Place: l.Place, Limit: -1, Exempt: l.Item.Flags&index.FlagExempt != 0,
			Now: l.Item.Modified, TrashUntil: b.o.Now().Add(rebuildGrace),
		}
	}
	entry, err := b.index.Get(l.Key)
	taken := err == nil && !entry.Dir
	older := false
	if taken {
		// Of two in the log the one that it names later is the newer, whatever the clock said.
		_, inLog := journal.ParseRef(entry.Item.Ref)
		older = !inLog && entry.Item.Modified.After(l.Item.Modified)
	}
	if l.State == index.LoggedTrash || older || taken && l.State == index.LoggedKept {
		b.report.Superseded++
		return b.bury(l.Key, l.Item.Ref, b.o.Now(), put)
	}
	b.report.Recovered++
	return b.queue(adoption{key: l.Key, mutations: []index.Mutation{put(l.Key)}, instead: b.buryUnder(spare(l.Key), l.Item.Ref, b.o.Now(), put)})
}

// follow lets an item that the snapshot has, under key, go where the log says that it went since.
func (b *rebuilder) follow(l index.Logged, key string) error {
	var changes []index.Mutation
	if l.State != index.LoggedGone {
		changes = append(changes, index.Relocate{Ref: l.Item.Ref, Place: l.Place})
	}
	entry, err := b.index.Get(key)
	isItem := err == nil && !entry.Dir && entry.Item.Ref == l.Item.Ref
	now, until := b.o.Now(), b.o.Now().Add(rebuildGrace)
	switch {
	case !isItem: // in the trash, where it stays for a time
	case l.State == index.LoggedItem && l.Key != key:
		if err := b.flushFor(key); err != nil {
			return err
		}
		changes = append(changes, index.Move{From: key, To: l.Key, Exempt: true, Limit: -1, Now: now, TrashUntil: until})
	case l.State == index.LoggedTrash, l.State == index.LoggedGone:
		changes = append(changes, index.Delete{Key: key, IfRef: l.Item.Ref, Now: now, TrashUntil: until})
	}
	if len(changes) == 0 {
		return nil
	}
	_, err = b.index.Apply(b.ctx, changes...)
	if refused(err) && l.State == index.LoggedItem { // a directory has taken the key
		b.o.Logger.Warn("the key of an item cannot be used; it can be restored from the trash under another key", "key", l.Key, "error", err)
		b.report.Superseded++
		move := index.Move{From: key, To: spare(l.Key), Exempt: true, Limit: -1, Now: now}
		changes = append(changes[:1], move, index.Delete{Key: move.To, IfRef: l.Item.Ref, Now: now, TrashUntil: until})
		_, err = b.index.Apply(b.ctx, changes...)
	}
	if refused(err) {
		b.o.Logger.Warn("an item stays where it was", "key", key, "error", err)
		return nil
	}
	return err
}

// flushFor lets the index see what the batch brings of a key already.
func (b *rebuilder) flushFor(key string) error {
	if b.keys[key] {
		return b.flush()
	}
	return nil
}
