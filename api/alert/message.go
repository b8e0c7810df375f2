package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Status is what a message says of an alert.
type Status string

const (
	Problem  Status = "problem"  // it has begun, or become worse
	Reminder Status = "reminder" // it lasts
	Over     Status = "over"     // it has ended
)

// Notice is one alert of a message.
type Notice struct {
	Status Status `json:"status"`
	Alert
	told bool // of one that is over: the receiver was told of its beginning
}

// Message is what a receiver is sent at once. Its JSON form is the body of a webhook and the input of a command; docs/alerts.md describes it.
type Message struct {
	Server  string    `json:"server"`
	Event   string    `json:"event"` // "alert", "summary" or "test"
	Level   Level     `json:"level"` // the highest of alerts that are not over; "" if all are
	Title   string    `json:"title"` // one line
	Text    string    `json:"text"`  // lines
	Notices []Notice  `json:"alerts"`
	Time    time.Time `json:"time"`
}

// What Message.Event can be.
const (
	eventAlert   = "alert"
	eventSummary = "summary"
	eventTest    = "test"
)

// maxLines is how many alerts the text of a message names. A JSON form has maxNotices.
const (
	maxLines   = 20
	maxNotices = 200
)

// alertMessage is a message of notices, which are not empty. The text names what is critical first, and what is over last: it may be cut.
func alertMessage(server string, notices []Notice, now time.Time) Message {
	slices.SortStableFunc(notices, func(a, b Notice) int { return a.rank() - b.rank() })
	m := Message{Server: server, Event: eventAlert, Time: now.UTC().Truncate(time.Second), Notices: notices}
	problems, over := 0, 0
	var lines []string
	for _, n := range notices {
		if n.Status == Over {
			over++
		} else {
			problems++
			if m.Level == "" || n.Level.above(m.Level) {
				m.Level = n.Level
			}
		}
		if len(lines) < maxLines {
			lines = append(lines, n.line())
		}
	}
	if more := len(notices) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more: packhouse alert list", more))
	}
	m.Text = strings.Join(lines, "\n")
	switch {
	case len(notices) == 1:
		m.Title = fmt.Sprintf("%s: %s", server, notices[0].headline())
	case over == 0:
		m.Title = fmt.Sprintf("%s: %d problems", server, problems)
	case problems == 0:
		m.Title = fmt.Sprintf("%s: %d problems are over", server, over)
	default:
		m.Title = fmt.Sprintf("%s: %s, %d over", server, count(problems, "problem"), over)
	}
	return m
}

// rank is the place of a notice in a text.
func (n Notice) rank() int {
	switch {
	case n.Status == Over:
		return 2
	case n.Level == Critical:
		return 0
	}
	return 1
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// about names what an alert is about, in a few words.
func (a Alert) about() string {
	what := string(a.Kind)
	if a.Repository != "" {
		what = printable(shorten(a.Repository, maxName)) + ": " + what
	}
	if a.Subject != "" {
		what += " (" + printable(shorten(a.Subject, maxName)) + ")"
	}
	return what
}

// maxName is the most that is shown of a name that somebody else has chosen, in bytes.
const maxName = 100

func (n Notice) headline() string {
	switch n.Status {
	case Over:
		return "over: " + n.about()
	case Reminder:
		return "still: " + n.about()
	}
	return n.about()
}

func (n Notice) line() string {
	since := n.Since.UTC().Format(timeForm)
	text := printable(n.Text)
	switch {
	case n.Status == Over && n.told:
		return fmt.Sprintf("OVER %s, since %s; it was: %s", n.about(), n.Ended.UTC().Format(timeForm), text)
	case n.Status == Over:
		return fmt.Sprintf("OVER %s, from %s to %s: %s", n.about(), since, n.Ended.UTC().Format(timeForm), text)
	case n.Status == Reminder:
		return fmt.Sprintf("STILL %s, since %s: %s", n.about(), since, text)
	}
	return fmt.Sprintf("%s %s: %s", strings.ToUpper(string(n.Level)), n.about(), text)
}

// timeForm is how texts write a time: to the minute, UTC.
const timeForm = "2006-01-02 15:04 UTC"

// printable is text on one line, without characters that a terminal or a mail program would act on, or that cannot be seen.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c == utf8.RuneError || unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return c
	}, text)
}

// printableLines is text of which each line is printable.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

const ellipsis = "…"

// shorten cuts text to n bytes, at the end of a character.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	end := max(0, n-len(ellipsis))
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// fit is text of at most n bytes: whole lines, as many as fit, and one that says how many are left out.
func fit(text string, n int) string {
	if len(text) <= n {
		return text
	}
	if !strings.Contains(text, "\n") {
		return shorten(text, n)
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = shorten(line, n/2)
	}
	left := ""
	for kept := len(lines); kept > 0; kept-- {
		if kept < len(lines) {
			left = fmt.Sprintf("\n… %s left out: packhouse alert list", count(len(lines)-kept, "line"))
		}
		if shown := strings.Join(lines[:kept], "\n"); len(shown)+len(left) <= n {
			return shown + left
		}
	}
	return lines[0] + left
}
