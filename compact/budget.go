package compact

import "golang.org/x/sync/semaphore"

// budgetSize is the number of items that all running plans together may read or delete: 500,000, each of which takes half a KiB of
// memory. An item that a plan creates counts as itemsPerOutput of them.
const (
	budgetSize     = 500_000
	itemsPerOutput = 4
)

// itemBudget is memory that plans share. A plan reserves what it may need before it begins, so that no plan holds a part while it waits
// for more. A plan that needs more than the whole budget gets all of it. Plans get it in the order in which they arrived.
type itemBudget struct {
	size int64
	free *semaphore.Weighted
}

func newItemBudget(size int64) *itemBudget { return &itemBudget{size, semaphore.NewWeighted(size)} }

// need is the part of the budget for a plan that names so many items and creates so many.
func (b *itemBudget) need(named, makes int) int64 {
	return min(int64(named)+itemsPerOutput*int64(makes), b.size)
}

// surveyIn is survey, with memory for what it finds and for the outputs reserved until leave is called.
func (r *run) surveyIn(b *itemBudget) (s *survey, leave func(), err error) {
	need := b.need(min(r.named, maxSources), r.makes)
	if err := b.free.Acquire(r.ctx, need); err != nil {
		return nil, nil, err
	}
	if s, err = r.survey(); err != nil {
		b.free.Release(need)
		return nil, nil, err
	}
	kept := b.need(len(s.sources), r.makes) // the plan may have named an item more than once
	b.free.Release(need - kept)
	return s, func() { b.free.Release(kept) }, nil
}
