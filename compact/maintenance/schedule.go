package maintenance

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

// Off is the schedule of a task that is disabled.
const Off = "off"

// schedule is a cron expression in a time zone, with jitter. nil: never.
type schedule struct {
	times  cron.Schedule
	zone   *time.Location
	jitter time.Duration
}

// parseSchedule reads a cron expression of five fields, a descriptor such as @daily or "@every 6h", or Off.
func parseSchedule(text string, zone *time.Location, jitter time.Duration) (*schedule, error) {
	if text == Off {
		return nil, nil
	}
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		return nil, fmt.Errorf("schedule %q: all schedules are in one time zone, which is a setting of its own", text)
	}
	times, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", text, err)
	}
	s := &schedule{times, zone, jitter}
	if s.times.Next(time.Unix(0, 0).UTC()).IsZero() {
		return nil, fmt.Errorf("schedule %q: there is no such time", text)
	}
	return s, nil
}

// CheckSchedule returns an error if the text is not a valid schedule.
func CheckSchedule(text string) error {
	_, err := parseSchedule(text, time.UTC, 0)
	return err
}

// NextTime returns when a run is due that follows one at last; the zero time: never, as the schedule is Off.
func NextTime(text string, zone *time.Location, last time.Time) (time.Time, error) {
	s, err := parseSchedule(text, zone, 0)
	if s == nil || err != nil {
		return time.Time{}, err
	}
	return s.after(last, ""), nil
}

// after returns when a run is due that follows one at last. what distinguishes runs with the same schedule.
//
// The expression is evaluated in local time: what is due at 02:30 is due once a day, also on the day when 02:30 occurs twice, and an
// hour later on the day when it does not occur. "@every" does not depend on local time.
func (s *schedule) after(last time.Time, what string) time.Time {
	if every, ok := s.times.(cron.ConstantDelaySchedule); ok {
		at := every.Next(last)
		return at.Add(s.delay(at, what))
	}
	wall := asUTC(last.In(s.zone))
	for {
		if wall = s.times.Next(wall); wall.IsZero() { // an expression with a year that is over
			return last.AddDate(100, 0, 0)
		}
		at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, s.zone)
		if at.After(last) {
			return at.Add(s.delay(at, what))
		}
	}
}

// asUTC is a time of the same date and clock in UTC, where every day has 24 hours.
func asUTC(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// delay is in [0, jitter), evenly spread over what and times.
func (s *schedule) delay(at time.Time, what string) time.Duration {
	if s.jitter <= 0 {
		return 0
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", what, at.Unix()))
	return time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(s.jitter))
}
