package repo

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"packhouse/index"
)

// To change what a snapshot says (a tag, the host, a rewritten path), the clients of some dialects store another one, and delete the first under
// the same lock. That is no backup, and must not make one look younger than it is: the record of it is taken back with the deletion.
//
// What is needed for that is remembered in memory, from the snapshot until the next change of a lock by the same client. A crash in between
// leaves the record. Nothing is remembered of a client that has no lock: rustic takes none, and a deletion by it says nothing about the
// snapshot before it. Clients are told apart by principal and address: of two machines that share a token, one may remove old snapshots while the
// other backs up.

// maxRecorded is of how many clients the last record of a backup can be taken back.
const maxRecorded = 4096

// recordedBackups are the last records of backups that can be taken back. The zero value works.
type recordedBackups struct {
	mu sync.Mutex // held for a look at of
	of map[recordedBy]index.TakeBackBackup
}

// recordedBy is a client.
type recordedBy struct{ principal, address string }

func (a *Access) recordedBy() recordedBy { return recordedBy{a.p.Name, a.p.Address} }

func (b *recordedBackups) forget(by recordedBy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.of, by)
}

// take removes the record of a client and returns it.
func (b *recordedBackups) take(by recordedBy) (record index.TakeBackBackup, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	record, ok = b.of[by]
	delete(b.of, by)
	return record, ok
}

// holdsLock tells whether the principal has stored a lock that is still there.
func (a *Access) holdsLock(ctx context.Context) (bool, error) {
	found := errors.New("found")
	err := a.r.index.List(ctx, index.ListOptions{Dir: "locks"}, func(e index.Entry) error {
		if !e.Dir && e.Item.Writer == a.p.Name {
			return found
		}
		return nil
	})
	switch {
	case errors.Is(err, found):
		return true, nil
	case errors.Is(err, index.ErrNotFound):
		return false, nil
	}
	return false, a.r.translate(err)
}

// backupBefore is what the record of a backup that is about to be stored replaces, if it can be taken back.
func (a *Access) backupBefore(ctx context.Context) (record *index.TakeBackBackup, err error) {
	if locks, err := a.holdsLock(ctx); err != nil || !locks {
		return nil, err
	}
	record = &index.TakeBackBackup{Writer: a.p.Name}
	if record.Before, _, err = a.r.index.LastBackupBy(a.p.Name); err != nil {
		return nil, a.r.translate(err)
	}
	record.All, _ = a.r.index.LastBackup()
	return record, nil
}

// backupRecorded remembers that a backup was recorded at a time, and what the record replaced.
func (a *Access) backupRecorded(record index.TakeBackBackup, at time.Time) {
	record.At = at
	b, by := &a.r.recorded, a.recordedBy()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = make(map[recordedBy]index.TakeBackBackup)
	}
	if earlier, ok := b.of[by]; ok && earlier.At.Equal(record.Before) {
		// Several snapshots are rewritten under one lock.
		record.Before, record.All = earlier.Before, earlier.All
	}
	if _, known := b.of[by]; known || len(b.of) < maxRecorded {
		b.of[by] = record
	}
}

// NewSnapshot tells whether the principal has stored a snapshot since it last completed a backup. It is for dialects in which a backup is only
// complete when something is stored that lists the snapshot.
func (a *Access) NewSnapshot(ctx context.Context) (found bool, err error) {
	last, _, err := a.r.index.LastBackupBy(a.p.Name)
	if err != nil || a.r.snapshots.dir == "" {
		return false, a.r.translate(err)
	}
	err = a.r.index.List(ctx, index.ListOptions{Dir: a.r.snapshots.dir}, func(e index.Entry) error {
		if !e.Dir && a.r.snapshots.lists(e.Key) && e.Item.Writer == a.p.Name && e.Item.Modified.After(last) {
			found = true
			return errFound
		}
		return nil
	})
	if found || errors.Is(err, index.ErrNotFound) {
		return found, nil
	}
	return false, a.r.translate(err)
}

// errFound ends a listing.
var errFound = errors.New("found")

// itemMoved is told of each item that a client has renamed by itself: borg removes an archive by a rename, so that it can be undeleted.
func (a *Access) itemMoved(ctx context.Context, from, to string) {
	if s := a.r.snapshots; s.lists(from) && !s.lists(to) {
		a.itemChanged(ctx, from, true)
	}
}

// itemChanged is told of each item that a client has stored or deleted by itself.
func (a *Access) itemChanged(ctx context.Context, key string, deleted bool) {
	switch {
	case !a.r.snapshots.rewrites:
	case strings.HasPrefix(key, "locks/"):
		a.r.recorded.forget(a.recordedBy())
	case deleted && a.r.snapshots.has(key):
		record, ok := a.r.recorded.take(a.recordedBy())
		if !ok {
			return
		}
		if _, err := a.r.apply(context.WithoutCancel(ctx), record); err != nil {
			a.r.env.Logger.Warn("a snapshot that was only rewritten counts as a backup", "repository", a.r.Name(), "principal", a.p.Name, "error", err)
		}
	}
}
