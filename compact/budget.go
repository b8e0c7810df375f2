package compact

import "golang.org/x/sync/semaphore"

// budgetSize is what plans at work may name together: 500,000 items that they read or delete, each of which takes half a KiB of
// memory. An item that a plan makes takes as much as itemsPerOutput of them.
const (
	budgetSize     = 500_000
	itemsPerOutput = 4
)

// itemBudget is memory that plans share. A plan takes what it may need before it begins, so that none holds some while it waits
// for more; one that needs more than there is has all of it to itself. They get it in the order in which they came.
type itemBudget struct {
	size int64
	free *semaphore.Weighted
}

func newItemBudget(size int64) *itemBudget { return &itemBudget{size, semaphore.NewWeighted(size)} }

// need is what a plan takes that names so many items and makes so many.
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
