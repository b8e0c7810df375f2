package repo

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"packhouse/index"
)

// OpenPlan is what makes a Batch the first half of a compaction.
type OpenPlan struct {
	Compaction *Compaction
	Sources    []string        // stay until the plan is proven
	Unused     []string        // the client calls them unused: they are kept, see Settings.CompactGrace, or left alone
	Found      []index.Require // outputs that are there already
}

// PendingError is an ErrQuota: what open plans and the packs that came back hold beyond the quota would be too much.
type PendingError struct {
	Since time.Time // when the oldest open plan began; zero: there is none
	By    string    // its principal
	Short int64     // bytes
}

func (e *PendingError) Error() string {
	if e.Since.IsZero() {
		return fmt.Sprintf("packs of earlier compactions that clients have requested again leave no space for another compaction, %d bytes short: run check and compact with the client that has the newest index", e.Short)
	}
	return fmt.Sprintf("the compaction that %q began at %s still waits for its index, %d bytes short: let its client run compact again, which ends it; \"packhouse repo info\" shows it",
		e.By, e.Since.UTC().Format(time.RFC3339), e.Short)
}
func (e *PendingError) Is(target error) bool { return target == ErrQuota }

// oldestPlan returns the open plan that began first.
func (r *Repository) oldestPlan() (oldest index.Plan, ok bool, err error) {
	found := errors.New("found")
	err = r.index.Plans(func(p index.Plan) error {
		oldest, ok = p, true
		return found
	})
	if errors.Is(err, found) {
		err = nil
	}
	return oldest, ok, r.translate(err)
}

// heldBound is how many bytes the sources of open plans, what came back and what is kept may have together: the limit, or
// what lived, counted or not, when the oldest open plan began, if that was more. Without a limit it is what the repository holds.
func (r *Repository) heldBound() (bound int64, oldest index.Plan, err error) {
	oldest, ok, err := r.oldestPlan()
	c := r.index.Counters()
	limit, _ := r.quota.limits()
	if limit < 0 {
		return c.Bytes - c.Exempt, oldest, err // sources and what came back are part of it: only what is kept has a bound
	}
	bound = c.Counted()
	if ok {
		bound = oldest.Live
	}
	return max(bound, limit), oldest, err
}

// MayOpen refuses a plan with a *PendingError if its sources would stay beyond what open plans may hold. freed are the bytes of
// sources of other plans, and of what came back, that the plan calls unused. The index tests it once more, when it is
// known which of these go.
func (a *Access) MayOpen(k *Compaction, sources, freed int64) error {
	if k != nil && freed > 0 {
		c := &a.r.compactions
		c.mu.Lock()
		before, err := c.unusedBefore(k, a.r.env.Now())
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if before.Equal(never) {
			freed = 0
		}
	}

	bound, oldest, err := a.r.heldBound()
	if err != nil {
		return err
	}
	c := a.r.index.Counters()
	if short := c.OpenBytes + c.ReturnedBytes - freed + sources - bound; sources > 0 && short > 0 {
		return &PendingError{Since: oldest.At, By: oldest.Principal, Short: short}
	}
	return nil
}

// openMutations are those of an open plan: packs that are unused go, unless somebody may have come to use them; then
// the sources become the plan's. mu of the compactions is held.
func (a *Access) openMutations(o *OpenPlan, now time.Time, cause *index.Cause) ([]index.Mutation, error) {
	c := &a.r.compactions
	var muts []index.Mutation
	by, lock := a.sender(), o.Compaction.lock
	if k := c.calls[o.Compaction.id]; k != nil { // the last request for the plan
		by, lock = k.by, k.lock
	}
	if len(o.Unused) > 0 {
		before, err := c.unusedBefore(o.Compaction, now)
		if err != nil {
			return nil, err
		}
		unused := slices.Clone(o.Unused)
		slices.SortFunc(unused, index.CompareKeys) // bbolt takes less time for rows in their order
		for _, key := range unused {
			if err := a.mayChange(key, "D"); err != nil {
				return nil, err
			}
			muts = append(muts, index.Delete{
				Key: key, IgnoreMissing: true, Keep: true, By: a.sender().String(), IfBefore: before,
				TrashUntil: a.r.keptUntil(a.r.env.Now()), Now: now, Cause: cause,
			})
		}
	}
	for _, key := range o.Sources {
		if err := a.mayChange(key, "D"); err != nil {
			return nil, err
		}
	}
	limit, _ := a.r.quota.limits()
	return append(muts, index.OpenPlan{
		Plan: index.Plan{
			Principal: by.name, Address: by.address, Lock: lock, Job: o.Compaction.id, At: now,
		},
		Sources: o.Sources, Limit: limit,
	}), nil
}

// foundMutations say of outputs that are there already that they were found now.
func (a *Access) foundMutations(o *OpenPlan, now time.Time) []index.Mutation {
	var muts []index.Mutation
	for _, found := range o.Found {
		muts = append(muts, index.Found{Key: found.Key, Ref: found.Ref, Now: now})
	}
	return muts
}

// Opened is what a Commit with an OpenPlan did.
type Opened struct {
	Plan    uint64 // 0: it has no sources
	Removed int64  // packs that were unused, and went
	Bytes   int64  // their sizes
}

// opened takes account of an open plan that is committed. results are those of openMutations. It returns by how many
// bytes they change what counts. mu of the compactions is held.
func (a *Access) opened(o *OpenPlan, now time.Time, results []index.Result) (done Opened, delta int64) {
	for i := range o.Unused {
		if previous := results[i].Previous; previous != nil {
			delta -= previous.Counted()
			done.Removed++
			done.Bytes += previous.Size
		}
	}
	if done.Removed > 0 {
		a.r.compactions.unused.note(a.sender(), now)
	}
	last := results[len(o.Unused)]
	done.Plan = last.Plan
	// Another request for the same plan may have come meanwhile: then it is that one's.
	if k := a.r.compactions.calls[o.Compaction.id]; k != nil && !k.ended {
		k.plan = last.Plan
	}
	return done, delta + last.Delta
}

// How many bytes of plans may wait in a repository whatever its quota is, and whatever the disk has left: what is full is to be
// compacted.
const (
	beyondQuota   = 16 << 20
	beyondReserve = 1 << 20
)

// AdmitPlan tells whether a plan of so many bytes may be stored until it is carried out, beside others of held bytes: beyond 16
// MiB they count against the quota, and beyond 1 MiB they leave a part of the reserve of the disk. Errors: *QuotaError,
// ErrNoSpace.
func (a *Access) AdmitPlan(held, bytes int64) error {
	used, reserved, _ := a.r.quota.current()
	if limit := a.limit(); held+bytes > beyondQuota && limit >= 0 && used+reserved+held+bytes > limit {
		return a.refusal(held + bytes)
	}
	if held+bytes <= beyondReserve {
		return nil
	}
	disk, err := a.r.reserveDisk(bytes, a.r.reserve.Load()/4) // as what a plan makes
	if err != nil {
		return err
	}
	disk.end() // it is written at once
	return nil
}
