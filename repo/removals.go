package repo

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"packhouse/index"
)

// removals counts the snapshots that were removed within the last day, by the hour. The zero value is none.
type removals []hourOfRemovals

// hourOfRemovals is what was removed within an hour.
type hourOfRemovals struct {
	hour    int64 // since 1970
	removed int64 // snapshots that their client does not see any more
	gone    int64 // of them, and of those removed earlier that could be undeleted until then
}

// removalHours is how many hours count, with the one that has begun: a day is over when it is over for sure.
const removalHours = 25

// add is h with what is removed now, without what was removed longer ago than a day. What a clock that was ahead has counted, counts as of
// now.
func (h removals) add(now time.Time, removed, gone int64) removals {
	hour := now.Unix() / 3600
	sum := make(removals, 0, len(h)+1)
	current := hourOfRemovals{hour, removed, gone}
	for _, one := range h {
		switch {
		case one.hour >= hour:
			current.removed += one.removed
			current.gone += one.gone
		case one.hour > hour-removalHours:
			sum = append(sum, one)
		}
	}
	return append(sum, current)
}

func (h removals) total() (removed, gone int64) {
	for _, one := range h {
		removed += one.removed
		gone += one.gone
	}
	return removed, gone
}

// until is when enough of h has left the day that no more than limit are left, with the last more, which it has already; zero: never.
func (h removals) until(limit, more int64) time.Time {
	if more > limit || len(h) == 0 {
		return time.Time{}
	}
	removed, _ := h.total()
	for _, one := range h {
		if removed -= one.removed; removed <= limit {
			return time.Unix((one.hour+removalHours)*3600, 0)
		}
	}
	return time.Unix((h[len(h)-1].hour+removalHours)*3600, 0)
}

func (h removals) encode() []byte {
	var text strings.Builder
	for _, one := range h {
		fmt.Fprintf(&text, "%d %d %d\n", one.hour, one.removed, one.gone)
	}
	return []byte(text.String())
}

// storedRemovals reads what encode has written.
func (r *Repository) storedRemovals() (h removals, err error) {
	value, err := r.index.Meta(metaRemovals)
	if err != nil {
		return nil, r.translate(err)
	}
	for line := range strings.Lines(string(value)) {
		fields := strings.Fields(line)
		var numbers [3]int64
		if len(fields) != len(numbers) {
			return nil, fmt.Errorf("meta value %s: %w", metaRemovals, index.ErrCorrupt)
		}
		for i, field := range fields {
			if numbers[i], err = strconv.ParseInt(field, 10, 64); err != nil {
				return nil, fmt.Errorf("meta value %s: %w", metaRemovals, index.ErrCorrupt)
			}
		}
		h = append(h, hourOfRemovals{numbers[0], numbers[1], numbers[2]})
	}
	return h, nil
}

// RemovedSnapshots is how many snapshots were removed within the last day, as far as Guard.MaxRemoved counts, and how many may be; a limit of
// -1: any number.
func (r *Repository) RemovedSnapshots() (removed, limit int64, err error) {
	rules := r.Guard()
	if !rules.MaxRemoved.limits() {
		return 0, -1, nil
	}
	h, err := r.storedRemovals()
	if err != nil {
		return 0, 0, err
	}
	removed, gone := h.add(r.env.Now(), 0, 0).total()
	there, err := r.Snapshots()
	return removed, rules.MaxRemoved.of(there + gone), err
}
