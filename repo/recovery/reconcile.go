package recovery

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo/keys"
	"packhouse/repo/layout"
)

// rebuildGrace is how long an item can be restored that gave way to a newer blob of its key. It may not have
// been overwritten: it may have been moved away, or the newer be an upload that was not acknowledged.
const rebuildGrace = 30 * 24 * time.Hour

// rebuildBatch is how many items one transaction takes in.
const rebuildBatch = 1000

// rebuilder brings an index and the blobs together.
type rebuilder struct {
	ctx    context.Context
	o      RebuildOptions
	dir    string
	store  *blobstore.Store
	index  *index.Index
	report *RebuildReport
	batch  []adoption
	keys   map[string]bool // of the batch
}

// adoption is what makes one blob an item, or a row of the trash.
type adoption struct {
	key       string
	mutations []index.Mutation
	// instead is for when those are refused: another item has become a directory of the key, or the key one.
	instead []index.Mutation
	buried  bool // into the trash
}

func (b *rebuilder) run() error {
	log, err := b.readLog()
	if err != nil {
		return err
	}
	if err := b.adoptLogged(log.Logged); err != nil {
		return err
	}
	if err := b.markMissing(); err != nil {
		return err
	}
	if !log.Exact {
		if err := b.returnKept(); err != nil {
			return err
		}
		if err := b.prolongTrash(); err != nil {
			return err
		}
	}
	if err := b.adoptListed(); err != nil {
		return err
	}
	if err := b.flush(); err != nil {
		return err
	}
	refs, err := b.unknown()
	if err != nil {
		return err
	}
	for i, ref := range refs {
		if err := b.adopt(ref); err != nil {
			return err
		}
		if i%rebuildBatch == 0 {
			b.o.Progress(int64(i))
		}
	}
	return b.flush()
}

// markMissing marks the items whose blob is gone, and takes the mark from those whose blob is there. Whether they were
// deleted since the snapshot or lost nobody knows.
func (b *rebuilder) markMissing() error {
	var marks []index.Mutation
	err := b.index.List(b.ctx, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		m := index.SetFlags{Key: e.Key, Ref: e.Item.Ref, Set: index.FlagMissing}
		there := b.exists(e.Item)
		if there {
			m.Set, m.Clear = 0, index.FlagMissing
		}
		if there == (e.Item.Flags&index.FlagMissing != 0) {
			marks = append(marks, m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(marks, rebuildBatch) {
		if _, err := b.index.Apply(b.ctx, part...); err != nil {
			return err
		}
	}
	return nil
}

// returnKept makes items again of what was kept after compactions: since the snapshot a client may have asked for it.
// Whichever index the clients have, both sides of every compaction are there.
func (b *rebuilder) returnKept() error {
	var changes []index.Mutation
	now := b.o.Now()
	err := b.index.EachKept(func(kept index.Kept) error {
		if b.exists(kept.Item) {
			changes = append(changes, index.ReturnKept{Key: kept.Key, Now: now})
		} else {
			changes = append(changes, index.Delete{Key: kept.Key, Now: now, TrashUntil: now})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(changes, rebuildBatch) {
		_, err := b.index.Apply(b.ctx, part...)
		if refused(err) {
			err = nil
			for _, change := range part {
				// One whose key a directory has taken stays kept.
				if _, single := b.index.Apply(b.ctx, change); single != nil && !refused(single) {
					return single
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// exists tells whether the blob of an item has a file, or a segment of the log. One that is cut short or cannot be read has: the scrubber
// will say so.
func (b *rebuilder) exists(item index.Item) bool {
	if _, inLog := journal.ParseRef(item.Ref); inLog {
		there, err := b.index.HasPayload(item.Ref)
		return there || err != nil
	}
	blob, err := b.store.Open(blobstore.Ref(item.Ref), blobstore.Info{Size: item.Size, BLAKE3: item.BLAKE3})
	if err == nil {
		_ = blob.Close() // nothing was read
	}
	return !errors.Is(err, blobstore.ErrNotFound)
}

// prolongTrash forgets the rows whose blob is gone, and gives the others a new grace time: since the snapshot
// such an item may have been restored.
func (b *rebuilder) prolongTrash() error {
	var rows []index.Removed
	var gone []string
	err := b.index.Trash(time.Time{}, func(removed index.Removed) error {
		if b.exists(removed.Item) {
			rows = append(rows, removed)
		} else {
			gone = append(gone, removed.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(gone, rebuildBatch) {
		if _, err := b.index.Apply(b.ctx, index.PurgeTrash{IDs: part}); err != nil {
			return err
		}
	}
	for _, removed := range rows {
		restore := func(key string) index.Mutation {
			return index.Restore{ID: removed.ID, Key: key, Exempt: true, Limit: -1, Now: removed.Expires}
		}
		if err := b.bury(removed.Key, removed.Item.Ref, removed.At, restore); err != nil {
			return err
		}
	}
	return b.flush()
}

// unknown lists the blobs that the index does not refer to, oldest first. It holds 17 bytes for each.
func (b *rebuilder) unknown() (refs []blobstore.Ref, err error) {
	err = b.store.Walk(b.ctx, func(ref blobstore.Ref, _ []byte, _ blobstore.Info, err error) error {
		_, known, indexErr := b.index.HasRef(string(ref))
		if file := ref.InFile(); indexErr == nil && !known && file != ref {
			_, known, indexErr = b.index.HasRef(string(file)) // an adopted file that ends as one of format 1 does
		}
		switch {
		case indexErr != nil || known:
		case err != nil:
			b.report.Unreadable++
		default:
			refs = append(refs, ref)
		}
		return indexErr
	})
	slices.SortFunc(refs, blobstore.ByAge)
	return refs, err
}

// adopt makes a blob the item that its label names, unless a newer one is there.
func (b *rebuilder) adopt(ref blobstore.Ref) error {
	text, info, err := b.store.Label(ref)
	if err == nil {
		var l layout.Label
		if l, err = layout.DecodeLabel(text); err == nil {
			return b.adoptAs(ref, info, l)
		}
	}
	if errors.Is(err, blobstore.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	b.report.Unreadable++
	return nil
}

func (b *rebuilder) adoptAs(ref blobstore.Ref, info blobstore.Info, l layout.Label) error {
	item := l.Item()
	item.Ref, item.Size, item.BLAKE3 = string(ref), info.Size, info.BLAKE3
	return b.take(l.Key, item, l.Exempt, false)
}

// take stores an item that the index does not know, unless a newer one is at its key. backup: its time is that of the last backup.
func (b *rebuilder) take(to string, item index.Item, exempt, backup bool) error {
	if err := b.flushFor(to); err != nil {
		return err
	}
	put := func(key string) index.Mutation {
		return index.Put{
			Key: key, Item: item, Limit: -1, Exempt: exempt, Now: item.Modified, TrashUntil: b.o.Now().Add(rebuildGrace), Backup: backup,
		}
	}
	entry, err := b.index.Get(to)
	if err == nil && !entry.Dir && entry.Item.Modified.After(item.Modified) {
		// Not surely what was overwritten: its commit may have been the later one.
		b.report.Superseded++
		return b.bury(to, item.Ref, b.o.Now(), put)
	}
	b.report.Recovered++
	return b.queue(adoption{key: to, mutations: []index.Mutation{put(to)}, instead: b.buryUnder(spare(to), item.Ref, b.o.Now(), put)})
}

// bury puts into the trash what store puts at a key. An item that is there steps aside for that moment.
func (b *rebuilder) bury(key, ref string, at time.Time, store func(key string) index.Mutation) error {
	mutations := b.buryUnder(key, ref, at, store)
	if entry, err := b.index.Get(key); err == nil && !entry.Dir {
		mutations = slices.Concat([]index.Mutation{index.Move{From: key, To: aside(ref), Exempt: true, Limit: -1, Now: at}}, mutations, []index.Mutation{index.Move{From: aside(ref), To: key, Exempt: true, Limit: -1, Now: at}})
	}
	return b.queue(adoption{key: key, mutations: mutations, instead: b.buryUnder(spare(key), ref, at, store), buried: true})
}

// aside is a key that no other item has, where one waits.
func aside(ref string) string { return "lost+found:" + hex.EncodeToString([]byte(ref)) }

func (b *rebuilder) buryUnder(key, ref string, at time.Time, store func(key string) index.Mutation) []index.Mutation {
	return []index.Mutation{store(key), index.Delete{Key: key, IfRef: ref, Now: at, TrashUntil: b.o.Now().Add(rebuildGrace)}}
}

// spare is a key that no directory is in the way of, for the trash to show.
func spare(key string) string {
	key = "lost+found:" + strings.ReplaceAll(key, "/", ":")
	return strings.ToValidUTF8(key[:min(len(key), keys.Max)], "")
}

func (b *rebuilder) queue(a adoption) error {
	b.keys[a.key] = true
	b.batch = append(b.batch, a)
	if len(b.batch) >= rebuildBatch {
		return b.flush()
	}
	return nil
}

// refused tells of an error that nothing was changed: a mutation met what it was not for.
func refused(err error) bool { return errors.As(err, new(*index.GroupError)) }

// flush applies the batch; should one blob of it not fit, the others do.
func (b *rebuilder) flush() error {
	batch := b.batch
	b.batch = nil
	clear(b.keys)
	if len(batch) == 0 {
		return nil
	}
	var all []index.Mutation
	for _, a := range batch {
		all = append(all, a.mutations...)
	}
	_, err := b.index.Apply(b.ctx, all...)
	if !refused(err) {
		return err
	}
	for _, a := range batch {
		_, err := b.index.Apply(b.ctx, a.mutations...)
		if !refused(err) {
			if err != nil {
				return err
			}
			continue
		}
		b.o.Logger.Warn("the key of a recovered blob cannot be used; it can be restored from the trash under another key", "key", a.key, "error", err)
		if !a.buried {
			b.report.Recovered--
			b.report.Superseded++
		}
		if _, err := b.index.Apply(b.ctx, a.instead...); err != nil {
			return err
		}
	}
	return nil
}
