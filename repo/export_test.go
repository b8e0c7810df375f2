package repo

import (
	"context"
	"errors"
	"testing"

	"packhouse/index"
)

// ReclaimPause is how long the reclaimer waits for more.
const ReclaimPause = reclaimPause

// ReclaimSome is one round of the reclaimer.
func (r *Repository) ReclaimSome(ctx context.Context) error {
	return func() error { _, _, err := r.reclaimOnce(ctx); return err }()
}

// ForgetChanges is what the reclaimer does with the history.
func ForgetChanges(r *Repository) error { return r.forgetChanges(context.Background()) }

// FirstOfTheLast is which of the last snapshots, so many of each principal, was removed first, when they are seen in this order; its key.
func FirstOfTheLast(keep int64, seen []index.Removed) string {
	l := comers{keep, make(map[string][]comer)}
	for _, s := range seen {
		removed := int64(0)
		if !s.At.IsZero() {
			removed = s.At.UnixMilli()
		}
		l.note(s.Key, &s.Item, removed)
	}
	if first := l.firstRemoved(); first != nil {
		return first.key
	}
	return ""
}

// Redate is what the reclaimer does with times in the future.
func Redate(r *Repository) error { return r.redate(context.Background()) }

// IndexOf is the repository's index.
func IndexOf(r *Repository) *index.Index { return r.index }

// RepairMarked repairs now what can be.
func RepairMarked(ctx context.Context, r *Repository) error {
	all := make(map[string]index.Entry)
	err := r.Marked(ctx, func(e index.Entry) error {
		all[e.Item.Ref] = e
		return nil
	})
	return errors.Join(err, r.repairAll(ctx, all))
}

// Dir is the repository's directory.
func Dir(r *Repository) string { return r.dir }

// Reserved is the disk space that uploads and plans of the whole set have yet to fill, in bytes.
func Reserved(r *Repository) int64 {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	return r.disk.reserved
}

// Shared is the disk space that is set aside for indexes that clients have yet to store, in the whole set; in bytes.
func Shared(r *Repository) int64 {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	return r.disk.sharedLocked(r.env.Now())
}

// CommitBytes is what the items of commit keys hold, as it is counted and as the index has it, and what is reserved for more.
func CommitBytes(t testing.TB, r *Repository) (counted, reserved, stored int64) {
	t.Helper()
	counted, reserved = r.quota.commits()
	if r.commit == nil {
		return counted, reserved, 0
	}
	stored, _, err := r.index.CommitTotal(r.commit.class)
	if err != nil {
		t.Fatal(err)
	}
	return counted, reserved, stored
}

// DeletePart is how many items DeleteAll removes in one transaction.
const DeletePart = deletePart

// CoverageParts is how many ranges the record of what was verified has at most.
const CoverageParts = coverageParts

// VerifiedAt is when the record says that the item of a key was verified, Unix ms, and how many ranges the record has.
func VerifiedAt(r *Repository, key string) (at int64, parts int) {
	r.coverage.mu.Lock()
	defer r.coverage.mu.Unlock()
	all := r.coverage.record.Parts
	for _, p := range all {
		if !behind(key, p.Last) {
			return p.At, len(all)
		}
	}
	panic("the last part has all keys")
}

// PurgeRow removes one row of the trash for good.
func PurgeRow(r *Repository, id string) error {
	row, err := r.index.Removed(id)
	if err != nil {
		return err
	}
	_, err = r.purge(context.Background(), []index.Removed{row})
	return err
}

// Hashings are the shared computations of a repository, and HashPatience is how long one goes on for nobody.
type Hashings = hashings

var NewHashings = newHashings

const HashPatience = hashPatience

func (s *hashings) Do(ctx context.Context, name string, compute func(context.Context) ([]byte, error)) ([]byte, error) {
	return s.do(ctx, name, compute)
}

func (s *hashings) Close() { s.close() }

// ThinVersions thins out all versions, in so many parts, and says how many are gone.
func ThinVersions(t testing.TB, r *Repository, parts int) int64 {
	t.Helper()
	var emptied Emptied
	for part := range parts {
		if err := r.thinVersions(context.Background(), part, parts, &emptied); err != nil {
			t.Fatal(err)
		}
	}
	return emptied.Items
}

// LeaveRollback has a rollback left, which did not come to its end, while the repository is being closed: before the goroutine that goes on
// with those has ended, or after it. It tells whether those can end who wait until nothing is removed from the trash.
func LeaveRollback(r *Repository, before bool) bool {
	r.stop()
	r.background.Wait()
	open, err := r.closeGate(r.env.Now())
	if err != nil {
		panic(err)
	}
	if before {
		r.rollback.init()
	}
	r.rollback.leave(rollbackRecord{}, open)
	if before {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.finishRollbacks(ctx)
	}
	free := r.trashMu.TryLock()
	if free {
		r.trashMu.Unlock()
	}
	return free
}

// Unpin is unpin.
func Unpin(r *Repository, why string) bool { return r.unpin(why) }

// GivesUpKept is givesUpKept, which a short disk asks.
func GivesUpKept(r *Repository) bool { return r.givesUpKept() }
