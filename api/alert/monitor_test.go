package alert_test

import (
	"context"
	"errors"
	"fmt"
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
	p := newPlace(t, alert.Receiver{Summary: "off"})
	p.fail = errors.New("connection refused")
	tries := 0
	p.DeliverBy("ops", func(context.Context, alert.Message) error { tries++; return p.fail })
	p.See([]alert.Condition{late("a"), late("b")})
	p.expect()
	p.expect() // too early
	if tries != 1 {
		t.Fatalf("got %d attempts, want 1", tries)
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
