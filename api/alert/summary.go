package alert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"packhouse/internal/bytesize"
)

// summary is what is told of a server at intervals, also when nothing is wrong.
type summary struct {
	at           time.Time           // of the look that saw it; zero: none has
	repositories []repositorySummary // by name
	unseen       []string            // of which nothing is known
}

type repositorySummary struct {
	name       string
	bytes      int64
	items      int64
	lastBackup time.Time // zero: never
}

func summarize(seen map[string]figures, unseen map[string]bool) (s summary) {
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		u := seen[name].usage
		s.repositories = append(s.repositories, repositorySummary{name, u.Bytes, u.Items, u.LastBackup})
	}
	s.unseen = slices.Sorted(maps.Keys(unseen))
	return s
}

// maxSummary is how many repositories a summary has a line for.
const maxSummary = 50

// summaryMessage tells of the repositories that a receiver is told of.
func summaryMessage(server string, s summary, alerts []Alert, about func(repository string) bool, now time.Time) Message {
	m := Message{Server: server, Event: eventSummary, Time: now.UTC().Truncate(time.Second), Notices: []Notice{}}
	m.Title = fmt.Sprintf("%s: summary, nothing is wrong", server)
	var lines []string
	if len(alerts) > 0 {
		m.Title = fmt.Sprintf("%s: summary, %s", server, count(len(alerts), "problem"))
	}
	slices.SortStableFunc(alerts, func(a, b Alert) int { return Notice{Alert: a}.rank() - Notice{Alert: b}.rank() })
	for _, a := range alerts {
		if m.Level == "" || a.Level.above(m.Level) {
			m.Level = a.Level
		}
		n := Notice{Status: Reminder, Alert: a}
		if len(m.Notices) < maxNotices {
			m.Notices = append(m.Notices, n)
		}
		if len(lines) < maxLines {
			lines = append(lines, n.line())
		}
	}
	if more := len(alerts) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more problems: packhouse alert list", more))
	}
	m.Text = strings.Join(append(lines, s.lines(about, now)...), "\n")
	return m
}

// stale is how old a look can be whose figures are told as those of now.
const stale = 15 * time.Minute

// lines are those of the repositories that a receiver is told of.
func (s *summary) lines(about func(repository string) bool, now time.Time) []string {
	if s.at.IsZero() {
		return []string{"nothing is known of the repositories"}
	}
	all, bytes := 0, int64(0)
	var list []string
	for _, r := range s.repositories {
		if !about(r.name) {
			continue
		}
		all++
		bytes += r.bytes
		last := "no backup yet"
		if !r.lastBackup.IsZero() {
			last = "last backup " + r.lastBackup.UTC().Format(timeForm)
		}
		list = append(list, fmt.Sprintf("%s: %s, %s", printable(r.name), last, bytesize.Text(r.bytes)))
	}
	unknown := 0
	for _, name := range s.unseen {
		if about(name) {
			unknown++
			list = append([]string{printable(name) + ": not known now"}, list...)
		}
	}
	total := fmt.Sprintf("%d repositories, ", all+unknown)
	if all+unknown == 1 {
		total = "1 repository, "
	}
	if unknown > 0 {
		total += fmt.Sprintf("%d of which not known now, the others ", unknown)
	}
	total += bytesize.Text(bytes)
	if now.Sub(s.at) > stale {
		total += ", as of " + s.at.UTC().Format(timeForm) + ": nothing newer is known"
	}
	if more := len(list) - maxSummary; more > 0 {
		list = append(list[:maxSummary], fmt.Sprintf("… and %d more: packhouse repo list", more))
	}
	return append([]string{total}, list...)
}
