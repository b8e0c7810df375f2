package maintenance

import (
	"fmt"
	"strings"
	"time"
)

// Window is the time of day at which heavy work may start. The zero Window is always open.
type Window struct {
	from, to clock // to is on the next day when it is not after from
	zone     *time.Location
}

// clock is a time of day.
type clock struct{ hour, minute int }

func (c clock) minutes() int { return 60*c.hour + c.minute }

// ParseWindow reads "HH:MM-HH:MM", in the zone, which may be nil for the machine's. The second time may be on
// the next day. "": always open.
func ParseWindow(text string, zone *time.Location) (Window, error) {
	if zone == nil {
		zone = time.Local
	}
	if text == "" {
		return Window{zone: zone}, nil
	}
	first, second, ok := strings.Cut(text, "-")
	from, errFrom := parseClock(first)
	to, errTo := parseClock(second)
	if !ok || errFrom != nil || errTo != nil {
		return Window{}, fmt.Errorf("maintenance window %q: expected two times of day such as 01:00-05:00", text)
	}
	if from == to {
		return Window{}, fmt.Errorf("maintenance window %q is empty; leave it out for always", text)
	}
	return Window{from, to, zone}, nil
}

func parseClock(text string) (clock, error) {
	t, err := time.Parse("15:04", strings.TrimSpace(text))
	return clock{t.Hour(), t.Minute()}, err
}

// always tells whether there is no window.
func (w Window) always() bool { return w.from == w.to }

// Next returns now while the window is open, otherwise the time when it opens next. On days when daylight saving time begins or ends,
// the window keeps its local times; a window that begins in the skipped hour opens when that hour would have begun.
func (w Window) Next(now time.Time) time.Time {
	if w.always() {
		return now
	}
	year, month, day := now.In(w.zone).Date()
	for i := -1; ; i++ {
		from := time.Date(year, month, day+i, w.from.hour, w.from.minute, 0, 0, w.zone)
		last := day + i
		if w.to.minutes() <= w.from.minutes() {
			last++
		}
		to := time.Date(year, month, last, w.to.hour, w.to.minute, 0, 0, w.zone)
		switch {
		case !to.After(now):
		case !from.After(now):
			return now
		case to.After(from):
			return from
		}
	}
}
