package blobstore

import (
	"errors"
	"io/fs"

	"golang.org/x/sync/errgroup"
)

// parallelSyncs is how many shards are synced at once: the disk flushes for all together.
const parallelSyncs = 16

// Settle removes the name of a committed blob in incoming/. It is called after the index commit that refers to the blob. After an
// error the next Sweep removes it.
func (s *Store) Settle(ref Ref) error {
	if ref.inLog() {
		return nil // it has no marker
	}
	id, err := ref.id()
	if err != nil {
		return err
	}
	// Not synced: a marker that comes back after a crash is settled by Sweep.
	if err := remove(s.fs.Remove, s.incomingPath(id)); err != nil {
		return wrap("settle blob", err)
	}
	return nil
}

// Remove unlinks a blob durably. It is no error if it is missing. Readers that have it open can read it to the end. It may be called
// only if no durable record refers to the blob, except one that says that it is to be removed. Errors: ErrFailed, ErrClosed, else
// I/O; it can be repeated.
func (s *Store) Remove(ref Ref) error { return s.RemoveAll([]Ref{ref}) }

// RemoveAll removes many blobs like Remove, with one sync for each shard. After an error with some of them the others are removed
// nevertheless.
func (s *Store) RemoveAll(refs []Ref) error {
	if err := s.ready(); err != nil {
		return err
	}
	var all error
	ids := make([]blobID, 0, len(refs))
	for _, ref := range refs {
		if ref.inLog() {
			continue // what nothing refers to any more is left behind when its segment goes
		}
		id, err := ref.id()
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		ids = append(ids, id)
	}
	return errors.Join(all, s.unlink(ids))
}

// unlink takes away both names of each blob, and its checksums. A name in incoming/ goes only after those
// in the shard are gone durably: else a crash could bring back a blob without its marker.
func (s *Store) unlink(ids []blobID) error {
	var all error
	gone := make([]blobID, 0, len(ids))
	var touched [256]bool
	for _, id := range ids {
		if err := s.unlinkShard(id); err != nil {
			all = errors.Join(all, wrap("remove blob", err))
			continue
		}
		gone = append(gone, id)
		touched[id.shard()] = true // also when it was missing: nobody may have synced that yet
	}
	var syncs errgroup.Group
	syncs.SetLimit(parallelSyncs)
	for shard, yes := range touched {
		if yes {
			syncs.Go(s.shards[shard].wait)
		}
	}
	if err := syncs.Wait(); err != nil {
		return errors.Join(all, err)
	}
	for _, id := range gone {
		if err := remove(s.fs.Remove, s.incomingPath(id)); err != nil {
			all = errors.Join(all, wrap("remove blob's marker", err))
		}
	}
	return all
}

// unlinkShard takes away what a blob has in its shard.
func (s *Store) unlinkShard(id blobID) error {
	mu := &s.removing[id.shard()]
	mu.Lock()
	defer mu.Unlock()
	if err := remove(s.fs.Remove, s.blobPath(id)); err != nil {
		return err
	}
	return remove(s.fs.Remove, s.sumsPath(id))
}

// remove calls fn, which removes the file of a name; that there is no such file is no error.
func remove(fn func(string) error, name string) error {
	if err := fn(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
