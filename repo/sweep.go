package repo

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/index"
)

// A sweep compares the names of the files with what the index refers to, both ways: an item without a file is marked
// as missing, and one whose file is back is not missing any more. It reads directories, no file.

// metaSwept is the name of the meta value that says when the last sweep ended; Unix ms, decimal.
const metaSwept = "names swept"

// sweeps are those of one repository.
type sweeps struct {
	mu        sync.Mutex // held over one sweep
	unsettled bool       // what a crash left in incoming/ is there still, as shards were missing; guarded by mu

	first   chan struct{} // closed when the first one since the opening has ended, or none is due
	waiting atomic.Int32  // requests that wait for it
	wake    chan struct{} // one is wanted now; capacity 1
}

func (s *sweeps) init() { s.first, s.wake = make(chan struct{}), make(chan struct{}, 1) }

// SweepReport is the result of a sweep.
type SweepReport struct {
	Items    int64 // looked at
	Missing  int64 // that were marked as missing by it
	Returned int64 // whose files were back
}

// Sweep compares the names now. It returns a *LossError if too many files are missing; then nothing is marked. It may be called at any
// time; concurrent calls run one after the other.
func (r *Repository) Sweep(ctx context.Context) (SweepReport, error) {
	r.sweeps.mu.Lock()
	defer r.sweeps.mu.Unlock()
	report, err := r.sweepLocked(ctx, nil)
	if errors.Is(err, ErrLoss) {
		r.sweepSoon() // the background looks more often from now on
	}
	return report, err
}

// findings are what a sweep finds to differ.
type findings struct {
	items int64
	gone  []index.Entry // no file, and not marked; at most maxFound
	more  bool          // more than that are
	back  []index.Entry // marked, and a file
}

// maxFound is how many items a sweep remembers; some 300 bytes each.
const maxFound = 200_000

// sweepLocked is one sweep. mu of the sweeps is held.
func (r *Repository) sweepLocked(ctx context.Context, rest func(context.Context, time.Duration) error) (report SweepReport, err error) {
	if err := r.inPlace(); err != nil {
		return report, err
	}
	shards, err := r.blobs.MissingShards()
	if err != nil {
		return report, r.translate(err)
	}
	found, err := r.compareNames(ctx, rest)
	report.Items = found.items
	if err != nil {
		return report, r.translate(err)
	}
	if n := int64(len(found.gone)); len(shards) > 0 || found.more || tooMuch(n, found.items) {
		l := &LossError{Items: n, Total: found.items, Shards: shards}
		for _, e := range found.gone {
			l.Bytes += e.Item.Size
		}
		return report, r.suspend(l)
	}
	if err := r.resume(ctx); err != nil {
		return report, err
	}
	marks := make([]marking, len(found.gone))
	for i, e := range found.gone {
		marks[i] = marking{entry: e, set: index.FlagMissing}
	}
	report.Missing = int64(r.setMarks(ctx, marks))
	for _, e := range found.back {
		r.returned(ctx, e)
		report.Returned++
	}
	r.noticed.Store(0)
	return report, nil
}

// compareNames finds what differs.
func (r *Repository) compareNames(ctx context.Context, rest func(context.Context, time.Duration) error) (f findings, err error) {
	names, err := r.blobs.Names(ctx, rest)
	if err != nil {
		return f, err
	}
	var gone []index.Entry
	err = r.index.List(ctx, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		f.items++
		there, marked := names.Has(refOf(e.Item)), e.Item.Flags&index.FlagMissing != 0
		switch {
		case there && marked && len(f.back) < maxFound:
			f.back = append(f.back, e)
		case !there && !marked && len(gone) < maxFound:
			gone = append(gone, e)
		case !there && !marked:
			f.more = true
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	// What was stored or removed while names and index were read looks like a loss.
	for _, e := range gone {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		there, err := r.blobs.Has(refOf(e.Item))
		if err != nil {
			return f, err
		}
		now, getErr := r.index.Get(e.Key)
		if !there && getErr == nil && now.Item.Ref == e.Item.Ref {
			f.gone = append(f.gone, e)
		}
	}
	return f, nil
}

// resume ends a LossError. mu of the sweeps is held, and no shard is missing.
func (r *Repository) resume(ctx context.Context) error {
	if r.sweeps.unsettled {
		if err := r.settleIncoming(ctx); err != nil {
			return r.translate(err)
		}
		r.sweeps.unsettled = false
	}
	if r.loss.Swap(nil) != nil {
		r.env.Logger.Warn("missing files are back or were accepted as lost: the repository is served again", "repository", r.Name())
		r.kick()
	}
	return nil
}

// LossReport is what AcceptLoss has marked or, in a dry run, would mark.
type LossReport struct {
	Items   int64    `json:"items"`   // missing and not marked before
	Bytes   int64    `json:"bytes"`   // their sizes
	Keys    []string `json:"keys"`    // the first hundred of them
	Total   int64    `json:"total"`   // items of the repository
	Shards  []string `json:"shards"`  // directories of blobs that are missing, and are made anew
	Marked  int64    `json:"marked"`  // items that were marked before
	Removed int64    `json:"removed"` // items whose rows went to the trash
}

// AcceptLoss marks all items whose files are missing, however many they are, and creates missing directories of blobs again. The rest is
// then listed and served. With forget it also moves the rows of all missing items to the trash, from which they can be restored if
// their files come back within the grace time. dry: it changes nothing and reports what it would mark.
func (r *Repository) AcceptLoss(ctx context.Context, forget, dry bool) (report LossReport, err error) {
	r.sweeps.mu.Lock()
	defer r.sweeps.mu.Unlock()
	if err := r.inPlace(); err != nil {
		return report, err
	}
	report.Keys, report.Shards = []string{}, []string{} // lists in JSON, also when they are empty
	shards, err := r.blobs.MissingShards()
	if err != nil {
		return report, r.translate(err)
	}
	report.Shards = append(report.Shards, shards...)
	report.Marked = r.index.Counters().MissingItems
	for again := true; again; {
		found, err := r.compareNames(ctx, nil)
		if err != nil {
			return report, r.translate(err)
		}
		report.Total = found.items
		marks := make([]marking, len(found.gone))
		for i, e := range found.gone {
			marks[i] = marking{entry: e, set: index.FlagMissing}
			report.Items++
			report.Bytes += e.Item.Size
			if len(report.Keys) < 100 {
				report.Keys = append(report.Keys, e.Key)
			}
		}
		again = found.more && !dry
		if dry {
			return report, nil
		}
		if err := r.Durable(); err != nil {
			return report, err
		}
		if n := r.setMarks(ctx, marks); n == 0 && (again || len(marks) > 0) {
			return report, errors.New("items that are missing cannot be marked; the server's log says why")
		}
	}
	if len(report.Shards) > 0 {
		if err := r.blobs.MakeShards(); err != nil {
			return report, r.translate(err)
		}
	}
	if err := r.resume(ctx); err != nil {
		return report, err
	}
	if forget {
		report.Removed, err = r.forgetMissing(ctx)
	}
	return report, err
}

// forgetMissing removes the rows of missing items to the trash.
func (r *Repository) forgetMissing(ctx context.Context) (removed int64, err error) {
	var deletes []BatchDelete
	err = r.Marked(ctx, func(e index.Entry) error {
		if e.Item.Flags&index.FlagMissing != 0 {
			deletes = append(deletes, BatchDelete{Key: e.Key, Ref: e.Item.Ref})
		}
		return nil
	})
	a := r.As(Principal{Name: "accept-loss"})
	for len(deletes) > 0 && err == nil {
		part := deletes[:min(len(deletes), markBatch)]
		deletes = deletes[len(part):]
		if _, err = a.Commit(ctx, Batch{Deletes: part}); err == nil {
			removed += int64(len(part))
		}
	}
	return removed, err
}

// startSweeps begins to sweep in the background, if Environment.Sweep says so.
func (r *Repository) startSweeps(ctx context.Context) {
	if r.env.Sweep <= 0 || r.inMemory {
		close(r.sweeps.first)
		return
	}
	last := r.lastSweep()
	due := last.Add(r.env.Sweep)
	if due.After(r.env.Now()) && r.lost() == nil {
		close(r.sweeps.first)
	} else {
		due = r.env.Now()
	}
	r.background.Go(func() { r.sweepAgain(ctx, due) })
}

// lastSweep is when the last sweep ended, also before the repository was opened; zero: never.
func (r *Repository) lastSweep() time.Time {
	value, err := r.index.Meta(metaSwept)
	if err != nil || value == nil {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if last := time.UnixMilli(ms); err == nil && !last.After(r.env.Now()) {
		return last
	}
	return time.Time{} // a clock that was once wrong
}

// lossInterval is how often is looked whether what was missing is back.
const lossInterval = time.Minute

// sweepAgain sweeps when one is due or wanted, until ctx ends.
func (r *Repository) sweepAgain(ctx context.Context, due time.Time) {
	for {
		timer := time.NewTimer(max(due.Sub(r.env.Now()), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.sweeps.wake:
			timer.Stop()
		case <-timer.C:
		}
		err := r.sweepInTurn(ctx)
		if ctx.Err() != nil {
			return
		}
		interval := r.env.Sweep
		if err != nil {
			interval = min(interval, lossInterval)
			if !errors.Is(err, ErrLoss) {
				r.env.Logger.Warn("could not compare the names of files with the index", "repository", r.Name(), "error", err)
			}
		}
		due = r.env.Now().Add(interval)
	}
}

// sweepInTurn is one sweep in the background. One repository of the set at a time has its, but for those that requests
// wait for.
func (r *Repository) sweepInTurn(ctx context.Context) error {
	for !r.disk.sweeping.TryLock() {
		if r.sweeps.waiting.Load() > 0 {
			return r.sweepNoted(ctx)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	defer r.disk.sweeping.Unlock()
	return r.sweepNoted(ctx)
}

func (r *Repository) sweepNoted(ctx context.Context) error {
	r.sweeps.mu.Lock()
	defer r.sweeps.mu.Unlock()
	began := time.Now()
	report, err := r.sweepLocked(ctx, r.restBetween)
	if ctx.Err() != nil {
		return err
	}
	if report.Missing+report.Returned > 0 {
		r.env.Logger.Warn("files are missing or back: the index was updated", "repository", r.Name(), "items", report.Items,
			"missing", report.Missing, "returned", report.Returned)
	}
	r.env.Logger.Debug("names of files compared with the index", "repository", r.Name(), "items", report.Items, "duration_seconds", time.Since(began).Seconds())
	select {
	case <-r.sweeps.first:
	default:
		close(r.sweeps.first) // also after an error: a list waits no longer for the next
	}
	if err != nil {
		return err
	}
	value := strconv.FormatInt(r.env.Now().UnixMilli(), 10)
	if err := r.SetMeta(context.WithoutCancel(ctx), metaSwept, []byte(value)); err != nil && !errors.Is(err, ErrReadOnly) {
		return err
	}
	return nil
}

// restBetween leaves the disk to others for as long as the last directory took, unless somebody waits.
func (r *Repository) restBetween(ctx context.Context, took time.Duration) error {
	if r.sweeps.waiting.Load() > 0 {
		return ctx.Err()
	}
	return pause(ctx, min(took, 50*time.Millisecond))
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// sweepSoon asks for a sweep in the background.
func (r *Repository) sweepSoon() {
	select {
	case r.sweeps.wake <- struct{}{}:
	default:
	}
}

// listPatience is how long a list waits for the first sweep of a repository with so many items: several times as long as
// it takes on a slow disk.
func listPatience(items int64) time.Duration {
	return min(5*time.Second+time.Duration(items)*50*time.Microsecond, time.Minute)
}

// awaitNames is called before the items of a directory are listed for a client: from a list of packs clients conclude what is lost.
func (r *Repository) awaitNames(ctx context.Context, dir string) error {
	if top, _, _ := strings.Cut(dir, "/"); top != "" && top != "packs" && top != "index" && top != "data" {
		return nil
	}
	select {
	case <-r.sweeps.first:
		return r.lost()
	default:
	}
	r.sweeps.waiting.Add(1)
	defer r.sweeps.waiting.Add(-1)
	timer := time.NewTimer(listPatience(r.index.Counters().Items))
	defer timer.Stop()
	select {
	case <-r.sweeps.first:
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		r.env.Logger.Warn("a listing was served before all names of files were compared with the index", "repository", r.Name())
	}
	return r.lost()
}
