package alert_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/api/alert"
)

// place is a monitor with one receiver, whose messages are recorded, and a clock.
type place struct {
	*alert.Monitor
	t    *testing.T
	o    alert.Options
	now  time.Time
	sent []string // status and what of each notice; the title of other messages
	fail error    // of the next deliveries
}

func newPlace(t *testing.T, r alert.Receiver) *place {
	t.Helper()
	p := &place{t: t, now: time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)} // a Wednesday
	r.Name = "ops"
	if r.Type == "" {
		r.Type, r.URL = alert.Webhook, "http://127.0.0.1:1/"
	}
	c := alert.DefaultConfig()
	c.Receivers, c.Zone = []alert.Receiver{r}, time.UTC
	p.o = alert.Options{Config: c, Server: "here", Now: func() time.Time { return p.now }, Path: filepath.Join(t.TempDir(), "alerts.json")}
	p.restart()
	return p
}

// restart begins anew with what is in the file.
func (p *place) restart() {
	p.Monitor = alert.New(p.o)
	p.record()
}

func (p *place) record() {
	p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
		if p.fail != nil {
			return p.fail
		}
		for _, n := range m.Notices {
			if m.Event == "alert" {
				p.sent = append(p.sent, fmt.Sprintf("%s %s %s%s", n.Status, n.Kind, n.Repository, n.Subject))
			}
		}
		if m.Event != "alert" {
			p.sent = append(p.sent, m.Event)
		}
		return nil
	})
}

// expect delivers what is due, and compares.
func (p *place) expect(want ...string) {
	p.t.Helper()
	p.sent = nil
	p.Deliver("ops")
	if got := strings.Join(p.sent, ", "); got != strings.Join(want, ", ") {
		p.t.Errorf("got %q, want %q", got, strings.Join(want, ", "))
	}
}

// pass lets time pass, with looks that see the same.
func (p *place) pass(d time.Duration, conditions ...alert.Condition) {
	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(time.Minute)
		p.See(conditions)
	}
}

func disk(level alert.Level) alert.Condition {
	return alert.Condition{Key: alert.Key{Kind: alert.Disk}, Level: level, Text: "little space"}
}

func late(repository string) alert.Condition {
	return alert.Condition{Key: alert.Key{Kind: alert.Backup, Repository: repository}, Level: alert.Warning, Text: "late"}
}

// TestToldOnce: a state is told when it begins, again after the repeat, when it becomes worse, and when it is over.
func TestToldOnce(t *testing.T) {
	p := newPlace(t, alert.Receiver{Repeat: 2 * time.Hour, Summary: "off"})
	p.expect()
	p.See([]alert.Condition{disk(alert.Warning), late("a")})
	p.expect("problem backup a", "problem disk ")
	p.pass(time.Hour, disk(alert.Warning), late("a"))
	p.expect()
	p.See([]alert.Condition{disk(alert.Critical), late("a")})
	p.expect("problem disk ")
	p.pass(time.Hour, disk(alert.Critical), late("a"))
	p.expect("reminder backup a") // disk was told an hour ago
	p.pass(3*time.Minute, disk(alert.Critical))
	p.expect() // a look or two that do not see it say nothing
	p.pass(time.Minute, disk(alert.Critical))
	p.expect("over backup a")
	p.pass(10*time.Minute, disk(alert.Critical))
	p.expect()
	p.See([]alert.Condition{disk(alert.Critical), late("a")})
	p.expect("problem backup a") // it has begun again
}

// TestNoRepeat: with repeat 0 it is told once.
func TestNoRepeat(t *testing.T) {
	p := newPlace(t, alert.Receiver{Repeat: -1, Summary: "off"})
	p.See([]alert.Condition{late("a")})
	p.expect("problem backup a")
	p.pass(72*time.Hour, late("a"))
	p.expect()
}

// TestFlapping: what comes and goes is one alert.
func TestFlapping(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	for range 20 {
		p.pass(2 * time.Minute)
		p.pass(time.Minute, late("a"))
	}
	p.expect("problem backup a")
}

// TestFailedDelivery: what could not be delivered is tried again, after longer and longer times, as it is then; and shown.
func TestFailedDelivery(t *testing.T) {
	var log bytes.Buffer
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	p.restart()
	p.fail = errors.New("connection refused")
	tries := 0
	p.DeliverBy("ops", func(context.Context, alert.Message) error { tries++; return p.fail })
	p.See([]alert.Condition{late("a"), late("b")})
	p.expect()
	p.expect() // too early
	if tries != 1 {
		t.Fatalf("got %d attempts, want 1", tries)
	}
	if want := `"to":"127.0.0.1:1","retrying_in_seconds":30,"error":"connection refused"`; !strings.Contains(log.String(), want) {
		t.Errorf("log: got %s, want %s", log.String(), want)
	}
	s := p.State().Receivers[0]
	if s.Waiting != 2 || s.Failed != 1 || s.Error != "connection refused" || !s.Next.Equal(p.now.Add(30*time.Second)) || !s.Since.Equal(p.now) {
		t.Errorf("got %+v", s)
	}
	for range 30 * 60 {
		p.now = p.now.Add(time.Minute)
		p.See([]alert.Condition{late("b")}) // a is over meanwhile
		p.Deliver("ops")
	}
	if tries < 30 || tries > 45 { // hourly in the end
		t.Errorf("got %d attempts within 30 hours", tries)
	}
	p.fail = nil
	p.record()
	p.now = p.now.Add(time.Hour)
	p.expect("problem backup b", "over backup a")
	if s := p.State().Receivers[0]; s.Waiting != 0 || s.Failed != 0 || s.Error != "" || !s.Next.IsZero() {
		t.Errorf("got %+v", s)
	}
	p.expect()
}

// TestWaitingIsBounded: a receiver that is away for years costs a bounded number of alerts.
func TestWaitingIsBounded(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.fail = errors.New("away")
	for i := range 1500 {
		p.See([]alert.Condition{late(fmt.Sprintf("r%04d", i))})
		p.pass(5 * time.Minute)
	}
	s := p.State().Receivers[0]
	if s.Waiting > 1000 || s.Dropped != 500 {
		t.Errorf("got %d that wait and %d dropped", s.Waiting, s.Dropped)
	}
	p.fail = nil
	p.sent = nil
	p.now = p.now.Add(time.Hour)
	p.Deliver("ops")
	if len(p.sent) != 1000 || p.sent[0] != "over backup r0500" {
		t.Errorf("got %d, the first %q", len(p.sent), p.sent[0])
	}
}

// TestUnseen: what is wrong with a repository of which nothing is known stays as it was.
func TestUnseen(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.See([]alert.Condition{late("a"), disk(alert.Warning)})
	p.expect("problem backup a", "problem disk ")
	for range 10 {
		p.now = p.now.Add(time.Minute)
		p.See([]alert.Condition{disk(alert.Warning)}, "a")
	}
	p.expect()
	for range 10 {
		p.now = p.now.Add(time.Minute)
		p.SeeNothing()
	}
	p.expect()
	p.pass(3 * time.Minute)
	p.expect() // looks that saw nothing do not count
	p.pass(time.Minute)
	p.expect("over backup a", "over disk ")
}

// TestHangingLook: a look that hangs is an alert, and ends none.
func TestHangingLook(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.See([]alert.Condition{late("a")})
	p.expect("problem backup a")
	since := p.now
	p.now = p.now.Add(time.Minute)
	p.Hang(since)
	p.expect()
	p.now = p.now.Add(time.Hour)
	p.Hang(since)
	p.expect("problem volume disk")
	if p.State().Hanging.IsZero() {
		t.Error("the state does not say that a look hangs")
	}
	p.See([]alert.Condition{late("a")})
	p.expect()
	p.pass(5*time.Minute, late("a"))
	p.expect("over volume disk")
}

// TestQuietHours: in them only what is critical is told, and the rest behind them, also what is over by then.
func TestQuietHours(t *testing.T) {
	p := newPlace(t, alert.Receiver{Quiet: "22:00-07:00", Summary: "off"})
	p.now = p.now.Add(11 * time.Hour) // 23:00
	damage := alert.Condition{Key: alert.Key{Kind: alert.Damage, Repository: "a"}, Level: alert.Critical, Text: "lost"}
	p.See([]alert.Condition{late("a"), late("b"), damage})
	p.expect("problem damage a")
	if s := p.State().Receivers[0]; s.Quiet != 2 || s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
	p.pass(time.Hour, late("a"))
	p.expect("over damage a")
	p.pass(7*time.Hour, late("a")) // 07:00
	p.expect("problem backup a", "over backup b")
}

// TestFilters: a receiver is told of the events and repositories that it is for.
func TestFilters(t *testing.T) {
	all := []alert.Condition{disk(alert.Warning), late("a"), late("b")}
	p := newPlace(t, alert.Receiver{Events: []alert.Kind{alert.Backup}, Repositories: []string{"b"}, Summary: "off"})
	p.See(all)
	p.expect("problem backup b")
	p.pass(5 * time.Minute)
	p.expect("over backup b")
}

// TestJobs: a job that has failed is told until one of its kind has not.
func TestJobs(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.See(nil)
	p.JobEnded("a", "scrub", "disk error")
	p.expect("problem job ascrub")
	p.Flush()
	p.restart()
	p.pass(time.Hour)
	p.expect()
	p.JobEnded("a", "vacuum", "")
	p.pass(time.Hour)
	p.expect()
	p.JobEnded("a", "scrub", "")
	p.pass(5 * time.Minute)
	p.expect("over job ascrub")
}

// TestRestart: what was told is known after a restart, and what was not is told then.
func TestRestart(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.See([]alert.Condition{late("a"), late("b")})
	p.expect("problem backup a", "problem backup b")
	p.Flush()
	p.restart()
	p.See([]alert.Condition{late("b")}, "a") // a is not open yet
	p.expect()
	p.fail = errors.New("away")
	p.pass(5*time.Minute, late("b"))
	p.expect()
	p.Flush()
	p.fail = nil
	p.restart()
	p.See([]alert.Condition{late("b"), late("c")})
	p.expect("problem backup c", "over backup a")
}

// TestDamagedFile: without what was told, or with a file that is none, it is told again.
func TestDamagedFile(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	for _, text := range []string{"", "{", `{"version":2}`, "\x00"} {
		if err := os.WriteFile(p.o.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.restart()
		p.See([]alert.Condition{late("a")})
		p.expect("problem backup a")
	}
}

// TestReconfigure: with another configuration what was told stays known by the names of receivers.
func TestReconfigure(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.See([]alert.Condition{late("a")})
	p.expect("problem backup a")
	c := p.o.Config
	c.Receivers = []alert.Receiver{{Name: "ops", Type: alert.Slack, URL: "http://127.0.0.1:1/", Summary: "off"}}
	p.Configure(c)
	p.record()
	p.See([]alert.Condition{late("a")})
	p.expect()
	c.Receivers = nil
	p.Configure(c)
	c.Receivers = []alert.Receiver{{Name: "ops", Type: alert.Slack, URL: "http://127.0.0.1:1/", Summary: "off"}}
	p.Configure(c)
	p.record()
	p.expect("problem backup a") // it is another one of that name
}

// TestStopTests: a test of a receiver that hangs does not keep the server from ending.
func TestStopTests(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	began := make(chan bool)
	p.DeliverBy("ops", func(ctx context.Context, _ alert.Message) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	ended := make(chan []alert.TestResult)
	go func() { ended <- p.Test(t.Context(), "ops") }()
	<-began
	p.StopTests()
	select {
	case results := <-ended:
		if len(results) != 1 || results[0].Error != "the server is stopping" {
			t.Errorf("got %+v", results)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the test goes on")
	}
}

// TestFirstSummary: a receiver that is told nothing gets its first summary, also of a server that is not running whenever one is due.
func TestFirstSummary(t *testing.T) {
	p := newPlace(t, alert.Receiver{})
	for range 6 { // days, each with a few hours; Monday at 08:00 is not among them
		p.Flush()
		p.restart()
		p.pass(3 * time.Hour)
		if p.now.Weekday() != time.Monday {
			p.expect()
		}
		p.now = p.now.Add(21 * time.Hour)
	}
	p.expect("summary")
}

// TestNameOfServer: messages have the name of the configuration, if it has one.
func TestNameOfServer(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	for _, want := range []string{"here: ", "backup1: ", "here: "} {
		c := p.o.Config
		if want != "here: " {
			c.Name = "backup1"
		}
		p.Configure(c)
		title := ""
		p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
			title = m.Title
			return nil
		})
		p.Test(t.Context(), "")
		if !strings.HasPrefix(title, want) {
			t.Errorf("got %q, want %q", title, want)
		}
	}
}

// TestSummary: once a week, also when nothing is wrong; after a restart that missed it, then.
func TestSummary(t *testing.T) {
	p := newPlace(t, alert.Receiver{})
	p.pass(4 * 24 * time.Hour) // Sunday
	p.expect()
	p.pass(24 * time.Hour) // Monday at noon
	p.expect("summary")
	p.expect()
	p.Flush()
	p.now = p.now.Add(9 * 24 * time.Hour)
	p.restart()
	p.expect() // nobody has looked yet
	p.See(nil)
	p.expect("summary")
	p.pass(time.Hour)
	p.expect()
}

// TestPing: as long as looks are made; and to /fail while something is critical, if that is asked for.
func TestPing(t *testing.T) {
	var levels []alert.Level
	p := newPlace(t, alert.Receiver{Type: alert.Ping, URL: "http://127.0.0.1:1/", Every: 10 * time.Minute, Fail: true})
	p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
		levels = append(levels, m.Level)
		return p.fail
	})
	step := func(want int) {
		t.Helper()
		levels = nil
		p.Deliver("ops")
		if len(levels) != want {
			t.Errorf("got %d pings, want %d", len(levels), want)
		}
	}
	step(0) // nobody has looked
	p.See([]alert.Condition{late("a")})
	step(1)
	if levels[0] != "" {
		t.Errorf("got a failure %q of a warning", levels[0])
	}
	p.pass(9*time.Minute, late("a"))
	step(0)
	p.pass(time.Minute, late("a"), disk(alert.Critical))
	step(1)
	if levels[0] != alert.Critical {
		t.Errorf("got %q, want a failure", levels[0])
	}
	p.fail = errors.New("away")
	p.pass(10 * time.Minute)
	step(1)
	if s := p.State().Receivers[0]; s.Error != "away" {
		t.Errorf("got %+v", s)
	}
	p.fail = nil
	p.pass(time.Minute)
	step(1)
	p.now = p.now.Add(time.Hour)
	p.Hang(p.now.Add(-time.Hour))
	step(0) // who waits for pings is to learn of it
}

// TestTooManyAlerts: alerts are bounded.
func TestTooManyAlerts(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	var all []alert.Condition
	for i := range 12_000 {
		all = append(all, late(fmt.Sprint("r", i)))
	}
	p.See(all)
	if n := len(p.State().Alerts); n != 10_000 {
		t.Errorf("got %d alerts, want 10,000", n)
	}
}

// TestAtOnce: many repositories that fail at once are one message to people, which names what is critical first; programs get all of them.
func TestAtOnce(t *testing.T) {
	var all []alert.Condition
	for i := range 1000 {
		all = append(all, late(fmt.Sprintf("r%04d", i)))
	}
	damage := alert.Condition{Key: alert.Key{Kind: alert.Damage, Repository: "z"}, Level: alert.Critical, Text: "lost"}
	all = append(all, damage)
	for kind, want := range map[alert.Type]int{alert.Slack: 1, alert.Mail: 1, alert.Webhook: 6, alert.Command: 6} {
		r := alert.Receiver{Type: kind, Summary: "off", URL: "http://127.0.0.1:1/", Command: []string{"x"}, To: []string{"a@b.example"}, SMTP: "127.0.0.1:1"}
		p := newPlace(t, r)
		var messages []alert.Message
		p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
			messages = append(messages, m)
			return nil
		})
		p.See(all)
		if n := p.State().Receivers[0].Waiting; n != 1001 {
			t.Errorf("%s: %d wait, want 1,001", kind, n)
		}
		p.Deliver("ops")
		if len(messages) != want {
			t.Fatalf("%s: got %d messages, want %d", kind, len(messages), want)
		}
		if m := messages[0]; !strings.HasPrefix(m.Text, "CRITICAL z: damage: lost\n") || m.Level != alert.Critical || len(m.Text) > 4000 || len(m.Text) < 500 {
			t.Errorf("%s: got %s %d bytes: %s", kind, m.Level, len(m.Text), m.Text)
		}
		told := 0
		for _, m := range messages {
			told += len(m.Notices)
		}
		if told != 1001 || p.State().Receivers[0].Waiting != 0 {
			t.Errorf("%s: told of %d, and %d wait", kind, told, p.State().Receivers[0].Waiting)
		}
		p.pass(5*time.Minute, damage)
		p.Deliver("ops") // that they are over is told at once, too
		if len(messages) != 2*want-want/6 {
			t.Errorf("%s: got %d messages after all are over", kind, len(messages))
		}
	}
}

// TestCrowd: what fails one after the other is told one by one at first, then together.
func TestCrowd(t *testing.T) {
	p := newPlace(t, alert.Receiver{Type: alert.Slack, URL: "http://127.0.0.1:1/", Summary: "off"})
	messages := 0
	told := make(map[string]bool)
	p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
		messages++
		for _, n := range m.Notices {
			told[n.Repository] = true
		}
		return nil
	})
	var all []alert.Condition
	for i := range 100 { // minutes
		all = append(all, late(fmt.Sprintf("r%04d", i)))
		p.pass(time.Minute, all...)
		p.Deliver("ops")
		if i == 9 && messages != 10 {
			t.Errorf("got %d messages of the first ten", messages)
		}
	}
	if messages < 15 || messages > 25 {
		t.Errorf("got %d messages in 100 minutes", messages)
	}
	if s := p.State().Receivers[0]; s.Waiting > 0 && (s.Next.IsZero() || s.Next.Sub(p.now) > 10*time.Minute) {
		t.Errorf("got %+v", s)
	}
	p.pass(11*time.Minute, all...)
	p.Deliver("ops")
	if len(told) != 100 {
		t.Errorf("told of %d of 100", len(told))
	}
	// Reminders come together, however long one after the other the alerts began.
	messages = 0
	for range 3 * 24 * 60 {
		p.pass(time.Minute, all...)
		p.Deliver("ops")
	}
	if messages != 3 {
		t.Errorf("got %d messages in three days in which nothing changes", messages)
	}
}

// TestReminderInQuietHours: what is critical is told again in them, and not more often because of something else.
func TestReminderInQuietHours(t *testing.T) {
	p := newPlace(t, alert.Receiver{Quiet: "22:00-07:00", Summary: "off"})
	p.See([]alert.Condition{late("a")}) // Wednesday, 12:00
	p.expect("problem backup a")
	damage := alert.Condition{Key: alert.Key{Kind: alert.Damage, Repository: "a"}, Level: alert.Critical, Text: "lost"}
	p.pass(11*time.Hour, late("a"), damage) // 23:00
	p.expect("problem damage a")
	p.pass(12*time.Hour+30*time.Minute, late("a"), damage) // 11:30
	p.expect()
	p.pass(30*time.Minute, late("a"), damage)
	p.expect("reminder damage a", "reminder backup a")
	p.pass(13*time.Hour, late("a"), damage) // 01:00
	p.expect()
	p.pass(11*time.Hour, late("a"), damage)
	p.expect("reminder damage a", "reminder backup a")
}

// TestQuietHoursOfAZone: they are those of the zone, over midnight, and on the days when the clock is changed.
func TestQuietHoursOfAZone(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin") // of the toolchain, where the system has none
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		quiet string
		at    time.Time
		want  bool
	}{
		{"22:00-07:00", time.Date(2026, 3, 28, 21, 59, 59, 0, zone), false},
		{"22:00-07:00", time.Date(2026, 3, 28, 22, 0, 0, 0, zone), true},
		{"22:00-07:00", time.Date(2026, 3, 29, 0, 0, 0, 0, zone), true},
		{"22:00-07:00", time.Date(2026, 3, 29, 4, 59, 0, 0, time.UTC), true}, // 06:59 in summer
		{"22:00-07:00", time.Date(2026, 3, 29, 5, 0, 0, 0, time.UTC), false},
		{"22:00-07:00", time.Date(2026, 10, 25, 5, 59, 0, 0, time.UTC), true}, // 06:59 in winter
		{"22:00-07:00", time.Date(2026, 10, 25, 6, 0, 0, 0, time.UTC), false},
		{"02:30-03:30", time.Date(2026, 10, 25, 0, 29, 0, 0, time.UTC), false}, // 02:29, for the first time
		{"02:30-03:30", time.Date(2026, 10, 25, 2, 29, 0, 0, time.UTC), true},
		{"02:30-03:30", time.Date(2026, 10, 25, 2, 30, 0, 0, time.UTC), false},
		{"02:30-04:00", time.Date(2026, 3, 29, 1, 59, 0, 0, time.UTC), true}, // 03:59; there is no 02:30
		{"02:30-04:00", time.Date(2026, 3, 29, 2, 0, 0, 0, time.UTC), false},
	} {
		p := newPlace(t, alert.Receiver{Quiet: tc.quiet, Summary: "off"})
		c := p.o.Config
		c.Zone = zone
		p.Configure(c)
		p.record()
		p.now = tc.at
		p.See([]alert.Condition{late("a")})
		p.sent = nil
		p.Deliver("ops")
		if (len(p.sent) == 0) != tc.want {
			t.Errorf("%s at %v: told %q", tc.quiet, tc.at.In(zone), p.sent)
		}
	}
}

// TestGuardOverRestart: repositories forget at a restart that their guard has refused something, and who is told does not: it is over a day after it began.
func TestGuardOverRestart(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	refused := alert.Condition{Key: alert.Key{Kind: alert.Guard, Repository: "a"}, Level: alert.Critical, Text: "refused"}
	p.See([]alert.Condition{refused, late("a")})
	p.expect("problem guard a", "problem backup a")
	p.Flush()
	p.restart()
	p.pass(20*time.Hour, late("a"))
	p.expect()
	p.pass(4*time.Hour+5*time.Minute, late("a"))
	p.expect("reminder backup a", "over guard a")
}

// TestClockJumps: whatever the clock does, nothing is lost, and nothing is told more than once more.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-400 * 24 * time.Hour, -time.Hour, time.Hour, 400 * 24 * time.Hour} {
		p := newPlace(t, alert.Receiver{Repeat: -1, Summary: "off"})
		p.See([]alert.Condition{late("a"), disk(alert.Warning)})
		p.expect("problem backup a", "problem disk ")
		p.now = p.now.Add(jump)
		p.See([]alert.Condition{late("a"), disk(alert.Warning)})
		p.pass(time.Hour, late("a"), disk(alert.Warning))
		p.expect()
		p.pass(10*time.Minute, late("a"))
		p.expect("over disk ")
		p.fail = errors.New("away")
		p.pass(time.Minute, late("a"), late("b"))
		p.expect()
		p.now = p.now.Add(-2 * jump)
		p.fail = nil
		p.pass(3*time.Hour, late("a"), late("b"))
		p.expect("problem backup b")
	}
}

// TestRetryAfter: how long it takes until it is tried again, which a receiver can ask for.
func TestRetryAfter(t *testing.T) {
	status, after := http.StatusTooManyRequests, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
	}))
	defer s.Close()
	slack := alert.Receiver{Type: alert.Slack, URL: s.URL}
	ping := alert.Receiver{Type: alert.Ping, URL: s.URL, Every: time.Minute}
	for _, tc := range []struct {
		r      alert.Receiver
		status int
		after  string
		before int
		want   time.Duration
	}{
		{slack, 429, "", 0, 30 * time.Second},
		{slack, 429, "", 3, 4 * time.Minute},
		{slack, 429, "", 100, time.Hour},
		{slack, 429, "5", 0, 30 * time.Second},
		{slack, 429, "120", 0, 2 * time.Minute},
		{slack, 429, "61.5", 0, 61500 * time.Millisecond},
		{slack, 429, "1e300", 0, 24 * time.Hour},
		{slack, 429, "-7", 0, 30 * time.Second},
		{slack, 429, "NaN", 0, 30 * time.Second},
		{slack, 429, "soon", 0, 30 * time.Second},
		{slack, 503, "120", 0, 2 * time.Minute},
		{slack, 404, "120", 0, 30 * time.Second},
		{ping, 500, "", 5, time.Minute},
		{ping, 429, "300", 5, 5 * time.Minute},
	} {
		status, after = tc.status, tc.after
		err := alert.DeliverMessage(t.Context(), tc.r, message())
		if got := alert.AfterFailure(tc.r, errors.Unwrap(err), tc.before); got != tc.want {
			t.Errorf("%d with Retry-After %q after %d failures: got %v, want %v", tc.status, tc.after, tc.before, got, tc.want)
		}
	}
	status, after = 429, time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat)
	err := alert.DeliverMessage(t.Context(), slack, message())
	if got := alert.AfterFailure(slack, errors.Unwrap(err), 0); got < 119*time.Minute || got > 2*time.Hour {
		t.Errorf("with a date: got %v", got)
	}
}

// TestTriedAtOnce: another configuration, and a test that is accepted, have what could not be delivered tried at once.
func TestTriedAtOnce(t *testing.T) {
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.fail = errors.New("away")
	p.See([]alert.Condition{late("a")})
	p.expect()
	p.fail = nil
	p.expect()
	p.Configure(p.o.Config)
	p.record()
	p.expect("problem backup a")

	p.fail = errors.New("away")
	p.See([]alert.Condition{late("a"), late("b")})
	p.expect()
	if results := p.Test(t.Context(), "ops"); len(results) != 1 || results[0].Error != "away" {
		t.Errorf("got %+v", results)
	}
	p.expect()
	p.fail = nil
	p.Test(t.Context(), "ops")
	p.expect("problem backup b")
}

// TestSummaryText: the figures are those of the last look; that nothing newer is known is said, and so is what is not known at all.
func TestSummaryText(t *testing.T) {
	text := ""
	p := newPlace(t, alert.Receiver{Summary: "@daily"})
	p.DeliverBy("ops", func(_ context.Context, m alert.Message) error {
		text = m.Title + "\n" + m.Text
		return nil
	})
	step := func(want string) {
		t.Helper()
		text = ""
		p.Deliver("ops")
		if text != want {
			t.Errorf("got\n%s\nwant\n%s", text, want)
		}
	}
	p.now = p.now.Add(24 * time.Hour)
	p.SeeNothing()
	step("here: summary, nothing is wrong\nnothing is known of the repositories")
	p.now = p.now.Add(24 * time.Hour)
	p.SeeFigures([]alert.Figures{{Name: "a", Bytes: 3 << 30, LastBackup: p.now.Add(-time.Hour)}, {Name: "b"}, {Name: "c", Bytes: 1 << 30}}, "d")
	step("here: summary, nothing is wrong\n4 repositories, 1 of which not known now, the others 4 GiB\nd: not known now\na: last backup 2026-03-06 11:00 UTC, 3 GiB\n" +
		"b: no backup yet, 0 B\nc: no backup yet, 1 GiB")
	p.now = p.now.Add(24 * time.Hour)
	p.SeeNothing()
	step("here: summary, nothing is wrong\n4 repositories, 1 of which not known now, the others 4 GiB, as of 2026-03-06 12:00 UTC: nothing newer is known\n" +
		"d: not known now\na: last backup 2026-03-06 11:00 UTC, 3 GiB\nb: no backup yet, 0 B\nc: no backup yet, 1 GiB")
	p.now = p.now.Add(24 * time.Hour)
	var many []alert.Figures
	for i := range 60 {
		many = append(many, alert.Figures{Name: fmt.Sprintf("r%02d", i), Bytes: 1 << 20})
	}
	p.SeeFigures(many)
	text = ""
	p.Deliver("ops")
	if lines := strings.Split(text, "\n"); len(lines) != 53 || lines[1] != "60 repositories, 60 MiB" || lines[52] != "… and 10 more: packhouse repo list" {
		t.Errorf("got %d lines:\n%s", len(lines), text)
	}
}
