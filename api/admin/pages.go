package admin

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
)

// Pages of lists that may have any length, for who shows them to people. A request for a page has a limit. Where a filter leaves few rows, a
// page may end early, with what comes next.

const (
	maxPage = 1000    // rows of one page
	maxLook = 100_000 // rows that are looked at for one
)

// TrashPage is a page of the removed items, by expiry.
type TrashPage struct {
	Removed []Removed `json:"removed"`
	Next    string    `json:"next,omitempty"` // "after" of the next page; absent: there is none
}

// HistoryPage is a page of changes, the latest first.
type HistoryPage struct {
	Changes []Change `json:"changes"`
	Next    uint64   `json:"next,omitempty"` // "before" of the next page; absent: there is none
}

// JobsPage is a page of jobs, the latest first.
type JobsPage struct {
	Jobs  []compact.Job `json:"jobs"`
	Total int           `json:"total"`
}

// errEnough ends a list when the page is full.
var errEnough = errors.New("the page is full")

// number reads a parameter within bounds.
func number(values map[string]string, name string, least, most, otherwise int64) (int64, error) {
	text, ok := values[name]
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, invalid("%s is a number from %d to %d, not %q", name, least, most, shorten(text))
	}
	return n, nil
}

func (q *request) pageOfTrash(values map[string]string) error {
	limit, err := number(values, "limit", 1, maxPage, 0)
	if err != nil {
		return err
	}
	page, looked, last := TrashPage{Removed: []Removed{}}, 0, ""
	err = q.repo.TrashAfter(values["after"], func(row index.Removed) error {
		if int64(len(page.Removed)) == limit || looked == maxLook {
			page.Next = last
			return errEnough
		}
		looked, last = looked+1, row.ID
		if strings.HasPrefix(row.Key, values["prefix"]) {
			page.Removed = append(page.Removed, Removed{row.ID, row.Key, row.Item.Size, row.Item.Modified, row.At, row.Expires})
		}
		return q.Context().Err()
	})
	if errors.Is(err, repo.ErrInvalid) {
		return invalid("after is the ID of a removed item, not %q", shorten(values["after"]))
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return q.reply(http.StatusOK, page)
}

func (q *request) pageOfHistory(values map[string]string) error {
	limit, err := number(values, "limit", 1, maxPage, 0)
	if err != nil {
		return err
	}
	before, err := number(values, "before", 1, 1<<62, 0)
	if err != nil {
		return err
	}
	if _, ok := values["since"]; ok {
		return invalid("since and limit cannot be used together")
	}
	key, byKey := values["key"]
	principal, byPrincipal := values["principal"]
	page, looked, last := HistoryPage{Changes: []Change{}}, 0, uint64(0)
	err = q.repo.LatestChanges(q.Context(), uint64(before), func(c index.Change) error {
		if int64(len(page.Changes)) == limit || looked == maxLook {
			page.Next = last
			return errEnough
		}
		looked, last = looked+1, c.ID
		if (!byKey || c.Key == key || c.From == key) && (!byPrincipal || c.Cause.Principal == principal) {
			page.Changes = append(page.Changes, describeChange(c))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return q.reply(http.StatusOK, page)
}

// window reads the parameters of a page of a list of which rows can be skipped. limit 0: the whole list is asked for.
func window(values map[string]string) (limit, skip int, err error) {
	n, err := number(values, "limit", 1, maxPage, 0)
	if err != nil {
		return 0, 0, err
	}
	m, err := number(values, "skip", 0, 1<<30, 0)
	if err == nil && n == 0 && len(values) > 0 {
		err = invalid("what selects rows is for a page, and needs limit")
	}
	return int(n), int(m), err
}

// WritersPage is a page of the principals that have completed backups.
type WritersPage struct {
	Writers []Writer `json:"writers"`
	Total   int      `json:"total"`
}

// listWriters shows a page of the principals that have completed backups: those with the latest backup first, or last with order=oldest.
func (q *request) listWriters(string) error {
	values, err := q.query("limit", "skip", "order")
	if err != nil {
		return err
	}
	limit, skip, err := window(values)
	if err != nil {
		return err
	}
	order := values["order"]
	if limit == 0 || order != "" && order != "latest" && order != "oldest" {
		return invalid("limit is needed, and order is latest or oldest")
	}
	all, total, err := q.repo.LatestWriters(math.MaxInt)
	if err != nil {
		return err
	}
	if order == "oldest" {
		slices.Reverse(all)
	}
	page := WritersPage{Writers: []Writer{}, Total: total}
	for _, w := range all[min(skip, total):min(skip+limit, total)] {
		page.Writers = append(page.Writers, Writer{w.Name, w.Last})
	}
	return q.reply(http.StatusOK, page)
}

func (q *request) pageOfJobs(values map[string]string, want func(compact.Kind) bool) error {
	limit, skip, err := window(values)
	if err != nil {
		return err
	}
	page := JobsPage{}
	page.Jobs, page.Total, err = q.h.o.Engine.RecentJobs(q.Context(), q.repo, func(job compact.Job) bool {
		return q.mine(job) && (want == nil || want(job.Kind))
	}, skip, limit)
	if err != nil {
		return err
	}
	if page.Jobs == nil {
		page.Jobs = []compact.Job{}
	}
	return q.reply(http.StatusOK, page)
}
