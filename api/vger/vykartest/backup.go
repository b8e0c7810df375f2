package vykartest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Backup makes a snapshot of chunks: those that the index does not have are uploaded. Packs go up without a lock,
// which is held for the commit alone; a client of format 1 holds its TTL lock all the while.
func (c *Client) Backup(name string, chunks ...[]byte) error {
	if c.ttl() {
		return c.backupTTL(name, chunks)
	}
	session, err := c.register()
	if err != nil {
		return err
	}
	r, err := c.Open()
	if err != nil {
		c.leave(session)
		return err
	}
	r.session = session
	b := newBackup(r)
	if err := b.upload(name, chunks); err != nil {
		b.abandon()
		c.leave(session)
		return err
	}
	left, err := b.commit()
	if err != nil {
		b.abandon()
		if !left {
			c.leave(session)
		}
	}
	return err
}

// backup is one that is under way.
type backup struct {
	r          *Repository
	snapshot   Snapshot
	data, tree packer
	changed    delta
	journal    map[string][]packedChunk // by pack key; every pack that was uploaded
	journaled  int                      // packs in the journal when it was last stored
	recovered  map[ID]Place             // what dead sessions uploaded and did not commit
	recycled   []string                 // their journals
}

// treePack is at how many bytes a pack with lists of chunks is closed.
const treePack = 4 << 20

func newBackup(r *Repository) *backup {
	return &backup{
		r: r, data: packer{target: r.c.o.PackSize}, tree: packer{target: min(r.c.o.PackSize, treePack)},
		changed: delta{make(map[ID]Place), make(map[ID]uint32)}, journal: make(map[string][]packedChunk), recovered: make(map[ID]Place),
	}
}

// upload stores what is new of the chunks, and their list.
func (b *backup) upload(name string, chunks [][]byte) error {
	c := b.r.c
	if _, there := b.r.named(name); there {
		return fmt.Errorf("snapshot %s: %w", name, ErrExists)
	}
	if !c.ttl() {
		if err := b.recover(); err != nil {
			return err
		}
	}
	var ids []ID
	seen := make(map[ID]bool)
	for _, chunk := range chunks {
		id := hash(chunk)
		if seen[id] {
			continue
		}
		seen[id] = true
		ids = append(ids, id)
		if err := b.add(&b.data, id, chunk); err != nil {
			return err
		}
	}
	list := encodeTree(ids)
	b.snapshot = Snapshot{ID: c.hex(32), Name: name, Tree: hash(list), Time: c.o.Now().UTC().Format(time.RFC3339Nano)}
	if err := b.add(&b.tree, b.snapshot.Tree, list); err != nil {
		return err
	}
	return nil
}

// add refers to a chunk, and uploads it if nobody has.
func (b *backup) add(p *packer, id ID, content []byte) error {
	if _, there := b.r.index.Chunks[id]; there {
		b.changed.more[id]++
		return nil
	}
	if place, ok := b.recovered[id]; ok {
		place.References = 1
		b.changed.added[id] = place
		return nil
	}
	if p.add(id, content) {
		return b.flush(p)
	}
	return nil
}

// flush uploads the pack that is open.
func (b *backup) flush(p *packer) error {
	body, entries := p.close()
	if len(entries) == 0 {
		return nil
	}
	name := hash(body)
	for _, e := range entries {
		b.changed.added[e.ID] = Place{1, name, e.Offset, e.Length}
	}
	if err := b.r.c.put(name.PackKey(), body); err != nil {
		return err
	}
	b.journal[name.PackKey()] = entries
	if len(b.journal) >= b.journaled+8 {
		return killed(b.putJournal())
	}
	return nil
}

// putJournal stores what has been uploaded, for a backup after this one was cut off.
func (b *backup) putJournal() error {
	if len(b.journal) == 0 || b.r.session == "" {
		return nil
	}
	body, err := json.Marshal(b.journal)
	if err != nil {
		return err
	}
	if err := b.r.c.put(journal(b.r.session), body); err != nil {
		return err
	}
	b.journaled = len(b.journal)
	return nil
}

// flushAll uploads what is left, and stores the journal.
func (b *backup) flushAll() error {
	if err := errors.Join(b.flush(&b.data), b.flush(&b.tree)); err != nil {
		return err
	}
	return killed(b.putJournal())
}

// abandon uploads what is collected and stores the journal, as far as that works.
func (b *backup) abandon() {
	if err := errors.Join(b.flush(&b.data), b.flush(&b.tree)); isKilled(err) {
		return
	}
	_ = b.putJournal() // the next backup then uploads again
}

// recover reads the journals of dead sessions. Packs that are not listed any more are left out.
func (b *backup) recover() error {
	c := b.r.c
	keys, err := c.list("sessions/")
	if err != nil {
		return killed(err)
	}
	alive := make(map[string]bool)
	for _, key := range keys {
		id, ok := strings.CutSuffix(strings.TrimPrefix(key, "sessions/"), ".json")
		if !ok {
			continue
		}
		body, err := c.get(key)
		if isKilled(err) {
			return err
		}
		var d sessionDocument
		at := time.Time{}
		if err == nil && json.Unmarshal(body, &d) == nil {
			at, err = time.Parse(time.RFC3339Nano, d.Refreshed)
		}
		// Here the client goes by age alone.
		alive[id] = err != nil || c.o.Now().Sub(at) <= staleSession
	}
	for _, key := range keys {
		id, ok := strings.CutSuffix(strings.TrimPrefix(key, "sessions/"), ".index")
		if !ok || alive[id] || id == b.r.session {
			continue
		}
		if err := b.recycle(key); isKilled(err) {
			return err
		}
	}
	return nil
}

// recycle takes over the journal of one dead session.
func (b *backup) recycle(key string) error {
	c := b.r.c
	body, err := c.get(key)
	if err != nil {
		return err
	}
	var packs map[string][]packedChunk
	if json.Unmarshal(body, &packs) != nil {
		return c.remove(key)
	}
	shards := make(map[string]bool)
	for pack := range packs {
		shards[pack[:len("packs/00")]] = true
	}
	listed := make(map[string]bool)
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		found, err := c.list(shard)
		if err != nil {
			return err
		}
		for _, pack := range found {
			listed[pack] = true
		}
	}
	for pack, entries := range packs {
		name, ok := parsePackKey(pack)
		if !ok || !listed[pack] {
			continue
		}
		for _, e := range entries {
			if _, there := b.r.index.Chunks[e.ID]; !there {
				b.recovered[e.ID] = Place{0, name, e.Offset, e.Length}
			}
		}
		b.journal[pack] = entries
	}
	b.recycled = append(b.recycled, key)
	return nil
}

// commit stores the index with what is new, and then the snapshot, under the lock. What follows the snapshot need not
// succeed.
// left tells whether the session was ended, which the client does while it holds the lock.
func (b *backup) commit() (left bool, err error) {
	r, c := b.r, b.r.c
	l, err := c.acquireWithin(10, 500*time.Millisecond)
	if err != nil {
		return false, err
	}
	r.held = l
	err = b.commitLocked()
	c.leave(r.session)
	r.held = nil
	if err = errors.Join(err, killed(c.release(l))); err != nil {
		return true, err
	}
	return true, killed(c.remove(journal(r.session)))
}

func (b *backup) commitLocked() error {
	r, c := b.r, b.r.c
	if there, err := c.exists(marker(r.session)); isKilled(err) {
		return err
	} else if err == nil && !there {
		return fmt.Errorf("session: %w", ErrStale)
	}
	if err := b.flushAll(); err != nil {
		return err
	}
	if err := r.refresh(true); err != nil {
		return err
	}
	if _, there := r.named(b.snapshot.Name); there {
		return fmt.Errorf("snapshot %s: %w", b.snapshot.Name, ErrExists)
	}
	fresh, err := r.readIndex()
	if err != nil {
		return err
	}
	changed, err := b.changed.reconcile(fresh)
	if err != nil {
		return err
	}
	if err := r.verify(changed); err != nil {
		return err
	}
	changed.apply(fresh)
	r.index, r.dirty = fresh, true
	if err := r.save(); err != nil {
		return err
	}
	if err := r.fence(); err != nil {
		return err
	}
	if err := b.putSnapshot(); err != nil {
		return err
	}
	b.journal = nil // the session is over
	for _, key := range b.recycled {
		if err := c.remove(key); isKilled(err) {
			return err
		}
	}
	return nil
}

func (b *backup) putSnapshot() error {
	body, err := json.Marshal(b.snapshot)
	if err != nil {
		return err
	}
	return b.r.c.put(b.snapshot.key(), body)
}

// verify wants every new pack to be there: one by one, or by lists when there are many.
func (r *Repository) verify(d delta) error {
	packs, shards := make(map[string]bool), make(map[string]bool)
	for _, p := range d.added {
		key := p.Pack.PackKey()
		packs[key], shards[key[:len("packs/00")]] = true, true
	}
	listed := make(map[string]bool)
	lists := len(packs) >= 32 && len(packs) > len(shards)
	if lists {
		for _, shard := range slices.Sorted(maps.Keys(shards)) {
			keys, err := r.c.list(shard)
			if err != nil {
				return err
			}
			for _, key := range keys {
				listed[key] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(packs)) {
		there := listed[key]
		if !lists {
			var err error
			if there, err = r.c.exists(key); err != nil {
				return err
			}
		}
		if !there {
			return fmt.Errorf("commit: pack %s: %w", key, ErrMissing)
		}
	}
	return nil
}

// backupTTL is Backup of the first generations.
func (c *Client) backupTTL(name string, chunks [][]byte) error {
	r, err := c.Open()
	if err != nil {
		return err
	}
	return r.maintain(func() error {
		b := newBackup(r)
		if err := b.upload(name, chunks); err != nil {
			return err
		}
		if err := errors.Join(b.flush(&b.data), b.flush(&b.tree)); err != nil {
			return err
		}
		if err := b.putSnapshot(); err != nil {
			return err
		}
		changed, err := b.changed.reconcile(r.index)
		if err != nil {
			return err
		}
		changed.apply(r.index)
		r.index.Generation = c.o.Random.Uint64()
		r.snapshots = append(r.snapshots, b.snapshot)
		// The index first: a manifest that names what it does not have could not be restored from.
		if err := c.put("index", r.index.Encode()); err != nil {
			return err
		}
		return r.putManifest()
	})
}
