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
// What is needed for that is remembered in memory, from the snapshot until the next change of a lock by the same principal. A crash in between
// leaves the record. Nothing is remembered of a client that has no lock: rustic takes none, and a deletion by it says nothing about the
// snapshot before it.

// maxRecorded is of how many principals the last record of a backup can be taken back.
const maxRecorded = 4096

// recordedBackups are the last records of backups that can be taken back, by principal. The zero value works.
type recordedBackups struct {
	mu sync.Mutex // held for a look at of
	of map[string]index.TakeBackBackup
}

func (b *recordedBackups) forget(principal string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.of, principal)
}

// take removes the record of a principal and returns it.
func (b *recordedBackups) take(principal string) (record index.TakeBackBackup, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	record, ok = b.of[principal]
	delete(b.of, principal)
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
	b := &a.r.recorded
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = make(map[string]index.TakeBackBackup)
	}
	if earlier, ok := b.of[a.p.Name]; ok && earlier.At.Equal(record.Before) {
		// Several snapshots are rewritten under one lock.
		record.Before, record.All = earlier.Before, earlier.All
	}
	if _, known := b.of[a.p.Name]; known || len(b.of) < maxRecorded {
		b.of[a.p.Name] = record
	}
}

// itemChanged is told of each item that a client has stored or deleted by itself.
func (a *Access) itemChanged(ctx context.Context, key string, deleted bool) {
	switch {
	case !a.r.snapshots.rewrites:
	case strings.HasPrefix(key, "locks/"):
		a.r.recorded.forget(a.p.Name)
	case deleted && a.r.snapshots.has(key):
		record, ok := a.r.recorded.take(a.p.Name)
		if !ok {
			return
		}
		if _, err := a.r.apply(context.WithoutCancel(ctx), record); err != nil {
			a.r.env.Logger.Warn("a snapshot that was only rewritten counts as a backup", "repository", a.r.Name(), "principal", a.p.Name, "error", err)
		}
	}
}
