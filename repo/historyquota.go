package repo

import (
	"context"
	"errors"
	"time"

	"packhouse/index"
)

// The history has a bound, so that a client cannot fill the disk with the rows of its changes: those that leave nothing in the trash,
// as moves and overwritten commit keys, and those of which the trash has lost what they replaced.
//
//   - It may have one charge (index.ChargeSize) for each item and directory, so that what can be stored at all within the quota is
//     not refused because of its history, and beside those a part of quota and trash quota.
//   - Beyond that the oldest rows are forgotten, but none of the protected time (Settings.Protect), and none that what is held is brought back by: a rollback reaches so far back whatever clients do.
//   - Then what would add a row is refused. Commit keys, plans and moves, which some clients delete with, are admitted up to twice the
//     bound. Deletions and restores are never refused: each needs an item that a change which was admitted has stored.

const (
	// historyPart is which part of the quota and of the trash quota the history may take.
	historyPart = 8
	// freeChanges is how many charges it may take whatever they are: what the clients of a small repository do within DefaultProtect.
	freeChanges = 16 << 10
)

// historyFor is how many charges the history may have beside those of items and directories; 0: any number, as there is no limit.
func historyFor(quota, trash int64) int64 {
	if quota < 0 && trash < 0 {
		return 0
	}
	return (max(quota, 0)/historyPart+max(trash, 0)/historyPart)/index.ChargeSize + freeChanges
}

// historyLimit is historyFor what the repository may hold, whoever asks: for so many the history is made smaller.
func (r *Repository) historyLimit() int64 {
	server := r.As(Principal{})
	return historyFor(server.limit(), server.trashLimit())
}

// addingCause is cause of a change that is refused where the history has no space for it. admitted: only beyond twice the bound.
func (a *Access) addingCause(job string, admitted bool) *index.Cause {
	c := a.cause(job)
	if c != nil {
		c.MaxHistory = historyFor(a.limit(), a.trashLimit())
		if admitted {
			c.MaxHistory *= 2
		}
	}
	return c
}

// admitChange refuses with a *HistoryError what would add a row to a history that has no space for it and cannot get it. The index tests
// it once more.
func (a *Access) admitChange(admitted bool) error {
	c := a.addingCause("", admitted)
	if c == nil || c.MaxHistory == 0 {
		return nil
	}
	if a.r.index.Counters().Changes*index.MaxChangeCharge < c.MaxHistory {
		return nil
	}
	for again := true; ; {
		charges, err := a.r.index.HistoryCharges()
		limit := c.MaxHistory + a.r.index.Charges()
		switch {
		case err != nil:
			return a.r.translate(err)
		case charges < limit:
			return nil
		case !again:
			return &HistoryError{Charges: charges, Limit: limit, Protected: a.r.Protected()}
		}
		again = a.r.shrinkHistory(context.Background())
	}
}

// makeWay makes space in the trash, or in the history, for a change that the index has refused because of one of them, and returns
// whether anything went. replaces is how many bytes the change would put into the trash.
func (a *Access) makeWay(err error, replaces func() int64) bool {
	switch {
	case errors.Is(err, index.ErrTrash):
		return a.giveWay(replaces())
	case errors.Is(err, index.ErrHistory):
		return a.r.shrinkHistory(context.Background())
	}
	return false
}

// historyFull is the error of a change that the index has refused because of the history.
func (a *Access) historyFull() error {
	charges, err := a.r.index.HistoryCharges()
	if err != nil {
		return a.r.translate(err)
	}
	return &HistoryError{Charges: charges, Limit: historyFor(a.limit(), a.trashLimit()) + a.r.index.Charges(), Protected: a.r.Protected()}
}

// trimHistory forgets what the history has beyond its bound and may be forgotten.
func (r *Repository) trimHistory(ctx context.Context) {
	for r.shrinkHistory(ctx) {
	}
}

// shrinkHistory forgets some of the oldest rows, if there are more than the repository may have, and tells whether any went.
func (r *Repository) shrinkHistory(ctx context.Context) bool {
	gone, err := r.forgetBeyond(ctx)
	if err != nil && ctx.Err() == nil {
		r.env.Logger.Warn("the history has more changes than it may, and none could be removed from it", "repository", r.Name(), "error", err)
	}
	return gone > 0 && err == nil
}

// forgetBeyond forgets up to reclaimBatch rows.
func (r *Repository) forgetBeyond(ctx context.Context) (gone int64, err error) {
	r.historyMu.Lock()
	defer r.historyMu.Unlock()
	limit := r.historyLimit()
	if limit == 0 || r.grace.Load() == 0 || r.Available() != nil { // what is rolled back follows from the history
		return 0, nil
	}
	if charges, err := r.index.HistoryCharges(); err != nil || charges < limit+r.index.Charges() {
		return 0, r.translate(err)
	}
	now := r.env.Now()
	before, err := r.notHeld(ctx, now.Add(-r.Protected()))
	if err != nil {
		return 0, err
	}
	before, err = r.oldestBatch(ctx, now, before)
	if err != nil || before.IsZero() {
		return 0, err
	}
	return r.forgetBefore(ctx, before, now)
}

// oldestBatch is a time before which the oldest rows were recorded, reclaimBatch of them if so many are older than before; zero: none is.
// A row of a time to come says nothing of its age, see index.ForgetChanges.
func (r *Repository) oldestBatch(ctx context.Context, now, before time.Time) (until time.Time, err error) {
	enough := errors.New("enough")
	rows := 0
	err = r.index.Changes(ctx, 0, func(c index.Change) error {
		if rows++; rows > reclaimBatch && !until.IsZero() {
			return enough
		}
		switch {
		case c.At.After(now):
		case !c.At.Before(before):
			return enough
		case !c.At.Before(until):
			until = c.At.Add(time.Millisecond)
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return until, r.translate(err)
}
