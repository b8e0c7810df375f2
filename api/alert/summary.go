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
	shown, bytes, more := 0, int64(0), 0
	var list []string
	for _, r := range s.repositories {
		if !about(r.name) {
			continue
		}
		bytes += r.bytes
		if shown++; shown > maxSummary {
			more++
			continue
		}
		last := "no backup yet"
		if !r.lastBackup.IsZero() {
			last = "last backup " + r.lastBackup.UTC().Format(timeForm)
		}
		list = append(list, fmt.Sprintf("%s: %s, %s", r.name, last, bytesize.Text(r.bytes)))
	}
	repositories := fmt.Sprintf("%d repositories", shown)
	if shown == 1 {
		repositories = "1 repository"
	}
	lines = append(lines, fmt.Sprintf("%s, %s", repositories, bytesize.Text(bytes)))
	lines = append(lines, list...)
	if more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more: packhouse repo list", more))
	}
	for _, name := range s.unseen {
		if about(name) {
			lines = append(lines, name+": not known now")
		}
	}
	m.Text = strings.Join(lines, "\n")
	return m
}
