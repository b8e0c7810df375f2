package repo

import (
	"sync/atomic"

	"packhouse/index"
)

// PlanReservation is quota and disk space set aside for a whole plan; see Access.Reserve.
type PlanReservation struct {
	quota *quotaReservation
	disk  *diskReservation
	// atMost is the usage that the plan may leave: the limit, or, if it adds nothing, what there was.
	atMost  int64
	removes int64       // bytes of what it deletes
	waits   atomic.Bool // disk space is set aside for an index, and endPlan was not called yet
}

// Release releases what was not used; after a Commit with it, it does nothing.
func (r *PlanReservation) Release() {
	r.quota.release()
	r.disk.end()
	r.endPlan(false)
}

// endPlan tells, once, how the plan ended for which disk space was set aside.
func (r *PlanReservation) endPlan(carriedOut bool) {
	if r.waits.CompareAndSwap(true, false) {
		r.disk.r.endPlan(carriedOut)
	}
}

// Reserve reserves bytes of quota (what a plan will add minus what it deletes) and peak bytes of disk space for its outputs. A plan that
// adds nothing is not refused above the limit, so that a repository can get below it again.
//
// The index that the client stores after the plan must fit too, with a quarter more than its size and 1 MiB: within the quota, or within
// what commit keys may have beyond it; and on the disk, where that much is reserved until it is stored, the plan has failed, or an
// hour has passed. Without it the client's index would refer to packs that no longer exist.
//
// With spare, what is kept after compactions is deleted if the disk is full.
//
// Errors: ErrQuota as a *QuotaError for the plan itself, else a *ShortError that is an ErrNoSpace or an ErrQuota.
func (a *Access) Reserve(net, peak int64, spare bool) (*PlanReservation, error) {
	stored, needs, err := a.r.indexAfter()
	if err != nil {
		return nil, err
	}
	refuse := a.r.refuse
	if !spare { // it will be tried again
		refuse = func(err error) error { return err }
	}
	d, err := a.r.reservePlanDisk(peak, needs, spare)
	if err != nil {
		return nil, refuse(err)
	}
	plan := &PlanReservation{quota: a.noReservation(), disk: d, removes: peak - net}
	plan.waits.Store(needs > 0)
	if net <= 0 {
		used, _, _ := a.r.quota.current()
		plan.atMost = max(used, a.limit())
	}
	if err = plan.quota.grow(net); err == nil {
		err = a.admitsIndex(min(net, 0), peak, needs-stored, needs)
	}
	if err != nil {
		plan.Release()
		return nil, refuse(err)
	}
	return plan, nil
}

// admitsIndex tells whether the quota has space for an index that grows by more bytes, after a plan that makes output bytes and takes
// freed away (negative; what it adds is reserved already).
func (a *Access) admitsIndex(freed, output, more, needs int64) error {
	limit := a.limit()
	if a.r.commit == nil || limit < 0 {
		return nil
	}
	total, mark, err := a.r.index.CommitTotal(a.r.commit.class)
	if err != nil {
		return a.r.translate(err)
	}
	_, uploads := a.r.quota.commits()
	beyond := total + uploads + more - index.CommitBound(mark)
	if beyond <= 0 {
		return nil
	}
	used, reserved, _ := a.r.quota.current()
	above := used + reserved + freed + more - limit
	if above > 0 {
		return &ShortError{Kind: ErrQuota, Short: min(beyond, above), Output: output, Index: needs}
	}
	// It fits within the quota, which others may fill before it comes. What is stored now was stored within it: so it may be
	// twice that whatever comes.
	return a.r.markCommit(limit)
}
