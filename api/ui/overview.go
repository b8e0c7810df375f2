package ui

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"packhouse/api/admin"
	"packhouse/api/alert"
	"packhouse/api/client"
)

// rowsShown is how many rows a page of a list has.
const rowsShown = 100

// overviewPage is what the page of that name shows.
type overviewPage struct {
	Health  client.Health
	Rows    []row // of this page
	Shown   int   // that the filter leaves
	Total   totals
	Filter  string
	Sort    string
	Pager   pager
	Failing int // of all: those that need someone
	// Alerts are what is wrong, the worst first, at most alertsShown of AlertsTotal, for who may do everything.
	Alerts      []alert.Alert
	AlertsTotal int
	// Unheard are the receivers of alerts that could not be told.
	Unheard []alert.ReceiverState
}

// alertsShown is how many alerts the page shows.
const alertsShown = 20

// Used is what is not free of the disk, in bytes.
func (p overviewPage) Used() int64 { return p.Health.Total - p.Health.Free }

// Orders are those that can be chosen.
func (overviewPage) Orders() []order { return orders }

// row is a repository in the list.
type row struct {
	client.Repository
	State  state
	Full   int64          // percent of its quota
	Latest []admin.Writer // the first few of Writers, if there are several
	More   int            // writers beyond those
}

// latestShown is how many writers a row has.
const latestShown = 3

func rowOf(r client.Repository) row {
	w := row{Repository: r, State: stateOf(&r)}
	if r.Usage.Quota != nil {
		w.Full = share(r.Usage.Counted, *r.Usage.Quota)
	}
	if r.WritersTotal > 1 {
		w.Latest = r.Writers[:min(latestShown, len(r.Writers))]
		w.More = r.WritersTotal - len(w.Latest)
	}
	return w
}

// totals are sums over all repositories that can be used.
type totals struct {
	Repositories int
	Items, Bytes int64
	Trash        int64
	Month        int64
}

// pager leads from a page of a list to those around it.
type pager struct {
	From, To, Of     int // rows, from 1 on; Of 0: not known
	Earlier, Further string
}

// order is one in which the repositories can be shown.
type order struct {
	Value, Text string
	compare     func(a, b client.Repository) int
}

var orders = []order{
	{"name", "name", func(a, b client.Repository) int { return strings.Compare(a.Name, b.Name) }},
	{"state", "state, worst first", func(a, b client.Repository) int { return cmp.Compare(stateOf(&b).rank, stateOf(&a).rank) }},
	{"backup", "last backup, oldest first", func(a, b client.Repository) int { return backupOf(a).Compare(backupOf(b)) }},
	{"size", "size", func(a, b client.Repository) int { return cmp.Compare(b.Usage.Bytes, a.Usage.Bytes) }},
	{"growth", "growth", func(a, b client.Repository) int { return cmp.Compare(monthOf(b), monthOf(a)) }},
}

func monthOf(r client.Repository) int64 {
	if r.Grown == nil {
		return 0
	}
	return r.Grown.Month
}

func backupOf(r client.Repository) time.Time {
	if r.Usage.LastBackup == nil {
		return time.Time{}
	}
	return *r.Usage.LastBackup
}

func (v *visit) overview() error {
	all, _, err := v.Repositories(v.r.Context())
	if err != nil {
		return err
	}
	p := overviewPage{Filter: v.r.FormValue("q"), Sort: v.r.FormValue("sort")}
	if p.Health, _, err = v.Health(v.r.Context()); err != nil {
		return err
	}
	if err := p.addAlerts(v); err != nil {
		return err
	}
	for i := range all {
		r := &all[i]
		if stateOf(r).rank > 0 {
			p.Failing++
		}
		if r.Error != nil {
			continue
		}
		p.Total.Repositories++
		p.Total.Items += r.Usage.Items
		p.Total.Bytes += r.Usage.Bytes
		p.Total.Trash += r.Usage.TrashBytes
		p.Total.Month += monthOf(*r)
	}
	if p.Filter != "" {
		all = slices.DeleteFunc(all, func(r client.Repository) bool {
			return !strings.Contains(strings.ToLower(r.Name), strings.ToLower(p.Filter))
		})
	}
	chosen := max(0, slices.IndexFunc(orders, func(o order) bool { return o.Value == p.Sort }))
	p.Sort = orders[chosen].Value
	slices.SortStableFunc(all, orders[chosen].compare)
	p.Shown = len(all)
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	p.Pager = pages("", len(all), &skip, "q", p.Filter, "sort", p.Sort)
	for _, r := range all[skip:min(skip+rowsShown, len(all))] {
		p.Rows = append(p.Rows, rowOf(r))
	}
	return v.page("overview", "Repositories", p)
}

// addAlerts asks what is wrong, if the user may know all of it. A server that sends no alerts has none.
func (p *overviewPage) addAlerts(v *visit) error {
	self, err := v.Self(v.r.Context())
	if err != nil {
		return err
	}
	if v.s.server.Store(self.Administrates); !self.Administrates {
		return nil
	}
	state, err := v.alertState()
	if client.Refused(err, http.StatusNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.AlertsTotal, p.Alerts = len(state.Alerts), state.Alerts[:min(alertsShown, len(state.Alerts))]
	for _, r := range state.Receivers {
		if r.Failed > 0 {
			p.Unheard = append(p.Unheard, r)
		}
	}
	return nil
}

// pages is the pager of a list of which rows can be skipped. skip is corrected to what there is.
func pages(page string, rows int, skip *int, parameters ...any) pager {
	*skip = min(*skip, rows)
	p := pager{From: min(*skip+1, rows), To: min(*skip+rowsShown, rows), Of: rows}
	if *skip > 0 {
		p.Earlier = link(page, append(slices.Clone(parameters), "skip", max(0, *skip-rowsShown))...)
	}
	if p.To < rows {
		p.Further = link(page, append(slices.Clone(parameters), "skip", *skip+rowsShown)...)
	}
	return p
}

// state is how a repository is, in few words.
type state struct {
	rank int    // 0: nothing to do
	Tone string // ok, warn, bad: a class of the style sheet
	Text string
	Why  string // in a sentence; "": there is nothing to say
}

func stateOf(r *client.Repository) state {
	switch {
	case r.Error != nil:
		return state{3, "bad", "unusable", r.Error.Detail}
	case !r.Health.Writable:
		return state{3, "bad", "read-only", r.Health.Reason}
	case r.Health.Damaged:
		return state{3, "bad", "index damaged", r.Health.Reason}
	case r.Usage.Missing+r.Usage.Damaged > 0:
		return state{3, "bad", "damaged", r.Health.Reason}
	case len(r.Health.Short) > 0:
		return state{2, "warn", "short of " + r.Health.Short[0].Of, r.Health.Short[0].Help}
	case r.Usage.LastBackup == nil:
		return state{1, "warn", "no backup yet", ""}
	}
	return state{0, "ok", "ok", r.Health.Reason}
}
