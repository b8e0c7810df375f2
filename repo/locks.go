package repo

import (
	"context"
	"errors"
	"time"

	"packhouse/index"
)

// AcquireLock takes or renews a TTL lock. Held by another: ErrLocked and the lock as it is.
// It is durable: it survives a restart and ends by this server's clock.
func (a *Access) AcquireLock(ctx context.Context, id, holder string, data []byte, ttl time.Duration) (index.Lock, error) {
	if err := a.May("locks", "wW"); err != nil {
		return index.Lock{}, err
	}
	a = a.at("locks")
	results, err := a.changeTTL(ctx, id, index.AcquireLock{ID: id, Holder: holder, Data: data, TTL: ttl, Now: a.r.env.Now()})
	var refused *index.GroupError
	if errors.As(err, &refused) && refused.Result.Lock != nil {
		return *refused.Result.Lock, err
	}
	if err != nil {
		return index.Lock{}, err
	}
	return *results[0].Lock, nil
}

// ReleaseLock frees a TTL lock, whoever holds it if holder is empty.
func (a *Access) ReleaseLock(ctx context.Context, id, holder string) error {
	if err := a.May("locks", "D"); err != nil {
		return err
	}
	a = a.at("locks")
	_, err := a.changeTTL(ctx, id, index.ReleaseLock{ID: id, Holder: holder})
	return err
}

// Locks returns the TTL locks that are held now.
func (a *Access) Locks(ctx context.Context) ([]index.Lock, error) {
	if err := a.May("locks", "l"); err != nil {
		return nil, err
	}
	a = a.at("locks")
	locks, err := a.r.index.Locks()
	if err != nil {
		return nil, a.r.translate(err)
	}
	now, held := a.r.env.Now(), locks[:0]
	for _, lock := range locks {
		if now.Sub(lock.Acquired) <= lock.TTL {
			held = append(held, lock)
		}
	}
	return held, nil
}

// ExpireLocks forgets TTL locks that have ended.
func (r *Repository) ExpireLocks(ctx context.Context) error {
	if r.overlay != nil {
		r = r.overlay.Repository
	}
	_, err := r.apply(ctx, index.ExpireLocks{Now: r.env.Now()})
	return err
}

// PutJob stores the durable record of a job.
func (r *Repository) PutJob(ctx context.Context, job index.Job) error {
	_, err := r.record(ctx, index.PutJob{Job: job})
	return err
}

// ReplaceJob is PutJob for a job whose record is old, or that has none (nil): else ErrConflict, and nothing is stored.
func (r *Repository) ReplaceJob(ctx context.Context, job index.Job, old []byte) error {
	_, err := r.record(ctx, index.PutJob{Job: job, IfAbsent: old == nil, IfRecord: old})
	if errors.Is(err, ErrExists) {
		return ErrConflict
	}
	return err
}

// DeleteJob forgets a job.
func (r *Repository) DeleteJob(ctx context.Context, id string) error {
	_, err := r.record(ctx, index.DeleteJob{ID: id})
	return err
}
