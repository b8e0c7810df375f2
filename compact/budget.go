package compact

import (
	"golang.org/x/sync/semaphore"

	"packhouse/repo"
)

// budgetSize is the number of items that all running plans on a file system together may read or delete: 500,000, each of which takes half a KiB of
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

// lane is what the plans in the repositories on one file system share. Each file system has its own: what waits for a disk that does
// not answer holds up nothing on another.
type lane struct {
	workers   chan struct{} // one token per operation at work for a client that waits
	behind    chan struct{} // the same for jobs in the background: slow ones must not hold up a client
	calls     *itemBudget   // memory of the plans of clients that wait
	jobs      *itemBudget   // of the jobs in the background, which must not hold up a client either
	estimates *itemBudget   // of plans that are only held against the index, which takes seconds
}

// lane is that of the repository's file system.
func (e *Engine) lane(r *repo.Repository) *lane {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := r.FileSystem()
	l := e.lanes[name]
	if l == nil {
		l = &lane{
			workers: make(chan struct{}, e.o.Workers), behind: make(chan struct{}, e.o.Workers),
			calls: newItemBudget(e.budget), jobs: newItemBudget(e.budget), estimates: newItemBudget(e.budget),
		}
		e.lanes[name] = l
	}
	return l
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
