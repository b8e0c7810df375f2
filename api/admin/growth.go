package admin

import (
	"net/http"
	"time"

	"packhouse/repo"
)

// GrowthDay is what a repository was at the end of a day (UTC); of the last one, what it is now.
type GrowthDay struct {
	Day   string `json:"day"` // 2026-11-29
	Bytes int64  `json:"bytes"`
	Added int64  `json:"added"` // bytes that clients stored on that day
}

// Grown is by how many bytes a repository has grown within so many days, or since the first that is recorded; negative: it shrank.
type Grown struct {
	Day   int64 `json:"bytes_1d"`
	Week  int64 `json:"bytes_7d"`
	Month int64 `json:"bytes_30d"`
}

func (q *request) showGrowth(string) error {
	days, err := q.repo.Growth()
	if err != nil {
		return err
	}
	shown := make([]GrowthDay, 0, len(days))
	for _, d := range days {
		shown = append(shown, GrowthDay{d.Day.Format(time.DateOnly), d.Bytes, d.Added})
	}
	return q.reply(http.StatusOK, map[string]any{"days": shown})
}

// grown compares the last day with those before it; nil: there is none.
func grown(days []repo.GrowthDay) *Grown {
	if len(days) < 2 {
		return nil
	}
	now := days[len(days)-1]
	since := func(n int) int64 {
		before := days[0]
		for _, d := range days[1:] {
			if d.Day.After(now.Day.AddDate(0, 0, -n)) {
				break
			}
			before = d
		}
		return now.Bytes - before.Bytes
	}
	return &Grown{since(1), since(7), since(30)}
}
