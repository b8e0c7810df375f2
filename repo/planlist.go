package repo

import (
	"errors"

	"packhouse/index"
	"packhouse/repo/layout"
)

// Name is the repository's name in the log: the last part of its directory.
func (r *Repository) Name() string { return layout.NameIn(r.dir) }

// OldestPlans returns the oldest open plans, at most n.
func (r *Repository) OldestPlans(most int) (plans []index.Plan, err error) {
	if r.index.Counters().Plans == 0 || most <= 0 {
		return nil, nil
	}
	enough := errors.New("enough")
	err = r.index.Plans(func(p index.Plan) error {
		if plans = append(plans, p); len(plans) == most {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return plans, r.translate(err)
}

// PlanOf returns the open plan of a job. If there are several, because the same request came under different locks, it is the latest,
// with the sources of all of them. ok is false if none is open.
func (r *Repository) PlanOf(job string) (plan index.Plan, ok bool, err error) {
	if r.index.Counters().Plans == 0 {
		return plan, false, nil
	}
	err = r.index.Plans(func(p index.Plan) error {
		if p.Job == job {
			p.Sources += plan.Sources
			p.Bytes += plan.Bytes
			plan, ok = p, true
		}
		return nil
	})
	return plan, ok, r.translate(err)
}

// EachKept calls fn for everything that is kept after compactions, in the order in which it expires. No transaction is held
// while fn runs.
func (r *Repository) EachKept(fn func(index.Kept) error) error {
	return inPages(func(last *index.Kept, fn func(index.Kept) error) error {
		after := ""
		if last != nil {
			after = last.ID
		}
		return r.translate(r.index.KeptAfter(after, fn))
	}, fn)
}
