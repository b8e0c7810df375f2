package ui

import (
	"encoding/json"
	"errors"

	"packhouse/api"
	"packhouse/api/admin"
)

// locksPage is what the page of that name shows.
type locksPage struct {
	Locks []api.LockInfo
	Pager pager
}

func (v *visit) locks() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	page, err := v.LocksPage(v.r.Context(), v.name, skip, rowsShown)
	if err != nil {
		return err
	}
	return v.page("locks", "Locks", locksPage{page.Locks, pages("locks", page.Total, &skip, "name", v.name)})
}

// writersPage is what the page of that name shows.
type writersPage struct {
	Writers []admin.Writer
	Oldest  bool // those whose last backup is the oldest come first
	Pager   pager
}

func (v *visit) writers() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	order := v.r.FormValue("order")
	page, err := v.WritersPage(v.r.Context(), v.name, order == "oldest", skip, rowsShown)
	if err != nil {
		return err
	}
	return v.page("writers", "Writers", writersPage{page.Writers, order == "oldest", pages("writers", page.Total, &skip, "name", v.name, "order", order)})
}

// errPageFull ends a stream of rows of which a page has all that it shows.
var errPageFull = errors.New("the page is full")

// pageOf takes a page out of a stream of rows, which is not read further than that. Of what comes behind it is only known whether there is any.
func pageOf[T any](v *visit, name string, read func(each func(T, json.RawMessage) error) error) (rows []T, p pager, err error) {
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return nil, p, err
	}
	seen := 0
	err = read(func(row T, _ json.RawMessage) error {
		if seen++; seen <= skip {
			return nil
		}
		if len(rows) == rowsShown {
			p.Further = link(name, "name", v.name, "skip", skip+rowsShown)
			return errPageFull
		}
		rows = append(rows, row)
		return nil
	})
	if errors.Is(err, errPageFull) {
		err = nil
	}
	if skip > 0 {
		p.Earlier = link(name, "name", v.name, "skip", max(0, skip-rowsShown))
	}
	p.From, p.To = skip+min(1, len(rows)), skip+len(rows)
	return rows, p, err
}

// plansPage is what the page of that name shows.
type plansPage struct {
	Plans []admin.OpenPlan
	Pager pager
}

func (v *visit) plans() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	rows, p, err := pageOf(v, "plans", func(each func(admin.OpenPlan, json.RawMessage) error) error {
		return v.Plans(v.r.Context(), v.name, each)
	})
	if err != nil {
		return err
	}
	return v.page("plans", "Open plans", plansPage{rows, p})
}

// keptPage is what the page of that name shows.
type keptPage struct {
	Kept  []admin.KeptPack
	Pager pager
}

func (v *visit) kept() error {
	if _, err := v.administrated(); err != nil {
		return err
	}
	rows, p, err := pageOf(v, "kept", func(each func(admin.KeptPack, json.RawMessage) error) error {
		return v.Kept(v.r.Context(), v.name, each)
	})
	if err != nil {
		return err
	}
	return v.page("kept", "Kept after compactions", keptPage{rows, p})
}
