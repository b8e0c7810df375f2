package maintenance

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tests, wherever they run
)

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestWindowNext(t *testing.T) {
	const layout = "2006-01-02T15:04:05Z07:00"
	for _, c := range []struct{ name, window, zone, now, want string }{
		{"before", "01:00-05:00", "UTC", "2026-06-01T00:30:00Z", "2026-06-01T01:00:00Z"},
		{"at the beginning", "01:00-05:00", "UTC", "2026-06-01T01:00:00Z", "2026-06-01T01:00:00Z"},
		{"inside", "01:00-05:00", "UTC", "2026-06-01T04:59:59Z", "2026-06-01T04:59:59Z"},
		{"at the end", "01:00-05:00", "UTC", "2026-06-01T05:00:00Z", "2026-06-02T01:00:00Z"},
		{"over midnight, before it", "22:00-03:30", "UTC", "2026-06-01T23:00:00Z", "2026-06-01T23:00:00Z"},
		{"over midnight, after it", "22:00-03:30", "UTC", "2026-06-01T03:29:00Z", "2026-06-01T03:29:00Z"},
		{"over midnight, closed", "22:00-03:30", "UTC", "2026-06-01T03:30:00Z", "2026-06-01T22:00:00Z"},
		{"over the year's end", "22:00-03:30", "UTC", "2026-12-31T23:59:00Z", "2026-12-31T23:59:00Z"},
		{"to midnight", "20:00-00:00", "UTC", "2026-06-01T12:00:00Z", "2026-06-01T20:00:00Z"},
		{"another zone", "01:00-05:00", "America/New_York", "2026-06-01T04:00:00Z", "2026-06-01T05:00:00Z"},
		// In Berlin 02:00 becomes 03:00 on 29 March 2026, and 03:00 becomes 02:00 on 25 October.
		{"spring, ends in summer time", "01:00-05:00", "Europe/Berlin", "2026-03-29T02:59:00Z", "2026-03-29T02:59:00Z"},
		{"spring, an hour shorter", "01:00-05:00", "Europe/Berlin", "2026-03-29T03:00:00Z", "2026-03-29T23:00:00Z"},
		{"spring, begins in the hour left out", "02:30-05:00", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"},
		{"autumn, an hour longer", "01:00-05:00", "Europe/Berlin", "2026-10-25T03:59:00Z", "2026-10-25T03:59:00Z"},
		{"autumn, closed", "01:00-05:00", "Europe/Berlin", "2026-10-25T04:00:00Z", "2026-10-26T00:00:00Z"},
		{"always", "", "UTC", "2026-06-01T12:00:00Z", "2026-06-01T12:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := ParseWindow(c.window, location(t, c.zone))
			if err != nil {
				t.Fatal(err)
			}
			now, err := time.Parse(layout, c.now)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Next(now).UTC().Format(layout); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestParseWindowRefuses(t *testing.T) {
	for _, text := range []string{"01:00", "1-5", "01:00-25:00", "01:00-01:00", "01:00-05:00-07:00", "x"} {
		if w, err := ParseWindow(text, nil); err == nil {
			t.Errorf("%q: got %+v, want an error", text, w)
		}
	}
}

func TestJitterIsBoundedAndSpread(t *testing.T) {
	s, err := parseSchedule("0 3 * * *", time.UTC, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	base := time.Date(2026, 6, 2, 3, 0, 0, 0, time.UTC)
	seen := make(map[time.Time]bool)
	for _, what := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		at := s.after(day, what)
		if at.Before(base) || !at.Before(base.Add(10*time.Minute)) {
			t.Errorf("%s: got %s, want within 10 minutes of %s", what, at, base)
		}
		if again := s.after(day, what); !again.Equal(at) {
			t.Errorf("%s: got %s, then %s", what, at, again)
		}
		seen[at] = true
	}
	if len(seen) < 7 {
		t.Errorf("eight runs begin at %d times", len(seen))
	}
}

// A daily run stays daily over the changes of daylight saving time.
func TestScheduleOverDaylightSaving(t *testing.T) {
	zone := location(t, "Europe/Berlin")
	for _, expression := range []string{"30 2 * * *", "0 3 * * *", "@daily"} {
		s, err := parseSchedule(expression, zone, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, around := range []time.Time{time.Date(2026, 3, 27, 12, 0, 0, 0, zone), time.Date(2026, 10, 23, 12, 0, 0, 0, zone)} {
			runs := 0
			for at := s.after(around, ""); at.Before(around.AddDate(0, 0, 5)); at = s.after(at, "") {
				runs++
			}
			if runs != 5 {
				t.Errorf("%s from %s: got %d runs in 5 days", expression, around.Format(time.DateOnly), runs)
			}
		}
	}
}

// An interval is one also while clocks change.
func TestIntervalOverDaylightSaving(t *testing.T) {
	s, err := parseSchedule("@every 30m", location(t, "Europe/Berlin"), -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{time.Date(2026, 3, 28, 23, 10, 0, 0, time.UTC), time.Date(2026, 10, 24, 22, 10, 0, 0, time.UTC)} {
		for range 12 {
			next := s.after(at, "")
			if next.Sub(at) != 30*time.Minute {
				t.Errorf("after %s: got %s", at, next)
			}
			at = next
		}
	}
}

func TestParseScheduleRefuses(t *testing.T) {
	for _, text := range []string{"", "* * *", "61 * * * *", "@never", "0 0 31 2 *", "TZ=America/New_York 0 3 * * *", "CRON_TZ=UTC @daily"} {
		if s, err := parseSchedule(text, time.UTC, 0); err == nil {
			t.Errorf("%q: got %+v, want an error", text, s)
		}
	}
}
