package alert

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"packhouse/compact/maintenance"
)

// told is what a receiver knows. It is guarded by Monitor.mu.
type told struct {
	alerts  map[Key]toldAlert // that last, and of which it was told
	ended   []endedAlert      // of which it is still to be told, the oldest first
	sent    time.Time         // when the last message was delivered
	summary time.Time         // when the last summary was, or the receiver was first seen
	dropped int64             // of ended, as there were too many
	recent  []time.Time       // when the last messages of alerts were delivered that were not full, at most crowd

	attempts int // that have failed since the last success
	since    time.Time
	fault    string
	next     time.Time
}

// maxEnded is how many alerts that are over wait for a receiver that cannot be told.
const maxEnded = 1000

func newTold(now time.Time) *told { return &told{alerts: make(map[Key]toldAlert), summary: now} }

// told is what was stored.
func (r receiverState) told() *told {
	t := &told{alerts: make(map[Key]toldAlert), ended: r.Ended, sent: r.Sent, summary: r.Summary}
	for _, one := range r.Told {
		t.alerts[one.Key] = one
	}
	return t
}

func (t *told) state() receiverState {
	told := slices.SortedFunc(maps.Values(t.alerts), func(a, b toldAlert) int { return compareKeys(a.Key, b.Key) })
	return receiverState{Told: told, Ended: slices.Clone(t.ended), Sent: t.sent, Summary: t.summary}
}

// retry has what could not be delivered tried at once.
func (t *told) retry() {
	if t.attempts > 0 {
		t.next = time.Time{}
	}
}

// end notes that an alert is over.
func (t *told) end(a Alert, wanted bool) {
	_, known := t.alerts[a.Key]
	delete(t.alerts, a.Key)
	if !known && !wanted {
		return
	}
	if len(t.ended) >= maxEnded {
		t.ended = slices.Delete(t.ended, 0, 1)
		t.dropped++
	}
	t.ended = append(t.ended, endedAlert{a, known})
}

// sender tells one receiver. Its fields do not change, but for told, which Monitor.mu guards.
type sender struct {
	m       *Monitor
	r       Receiver
	deliver deliverer
	told    *told
	wake    chan struct{}
	leave   chan struct{}   // closed when another configuration holds
	ended   chan struct{}   // closed when loop has returned
	before  <-chan struct{} // of the sender with an earlier configuration; nil: there was none
}

// deliverer has one message delivered: nil when the receiver has accepted it. The error is one line, without secrets.
type deliverer interface {
	deliver(ctx context.Context, m Message) error
}

func (m *Monitor) newSender(r Receiver, t *told) *sender {
	return &sender{
		m: m, r: r, deliver: m.delivererOf(r), told: t, wake: make(chan struct{}, 1), leave: make(chan struct{}), ended: make(chan struct{}),
	}
}

func (m *Monitor) delivererOf(r Receiver) deliverer {
	switch r.Type {
	case Mail:
		return &mailer{r, m.server, m.o.RootCAs}
	case Command:
		return &command{r.Command, m.o.Environ}
	}
	return newWebhook(r, m.o.Version, m.o.RootCAs)
}

// hint has the receiver look whether there is something to tell.
func (s *sender) hint() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// deliverIn is how long one delivery may take.
const deliverIn = time.Minute

// After a failure it is tried again after firstRetry, and after twice the time with each failure that follows, up to lastRetry. What was refused for good
// is tried after lastRetry at once: mail servers lock out who comes with a wrong password too often. Who asks for more time gets it, up to longestRetry.
const (
	firstRetry   = 30 * time.Second
	lastRetry    = time.Hour
	longestRetry = 24 * time.Hour
)

// retryAfter is how long to wait when a delivery has failed after others.
func (s *sender) retryAfter(err error, attempts int) time.Duration {
	wait := min(firstRetry<<min(attempts, 10), lastRetry)
	why, ok := errors.AsType[*fault](err)
	if ok && why.refused {
		wait = lastRetry
	}
	if s.r.Type == Ping {
		wait = min(wait, s.every())
	}
	if ok {
		wait = max(wait, min(why.after, longestRetry))
	}
	return wait
}

// Once a receiver was sent crowd messages within an hour, the next one waits for crowdPause: what happens in a row is told together.
const (
	crowd      = 10
	crowdPause = 10 * time.Minute
)

// pauseLocked is until when no message of alerts is sent, as there were many; in the past: there were not.
func (s *sender) pauseLocked(now time.Time) time.Time {
	recent := s.told.recent
	if len(recent) < crowd || now.Sub(recent[0]).Abs() >= time.Hour {
		return time.Time{}
	}
	return recent[len(recent)-1].Add(crowdPause)
}

// loop delivers until the monitor is closed or has another configuration.
func (s *sender) loop() {
	defer close(s.ended)
	if s.before != nil {
		select {
		case <-s.before:
		case <-s.m.ctx.Done():
			return
		}
	}
	for {
		select {
		case <-s.m.ctx.Done():
			return
		case <-s.leave:
			return
		case <-s.wake:
		}
		for s.one() {
		}
	}
}

// one delivers what is due, and tells whether it was accepted: then more may be due.
func (s *sender) one() bool {
	message, ok := s.due()
	if !ok || s.m.ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(s.m.delivery, deliverIn)
	defer cancel()
	err := s.deliver.deliver(ctx, message)
	if err != nil && s.m.delivery.Err() != nil {
		return false // it was not the receiver that failed
	}
	s.delivered(message, err)
	return err == nil
}

// due returns the next message, if one is due.
func (s *sender) due() (Message, bool) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	now := s.m.o.Now()
	if now.Before(s.told.next) && s.told.next.Sub(now) <= max(longestRetry, s.every()) { // else the clock was set back
		return Message{}, false
	}
	if s.r.Type == Ping {
		return s.pingLocked(now)
	}
	notices, _ := s.noticesLocked(now)
	if most := s.r.most(); len(notices) > most {
		return alertMessage(s.m.server, notices[:most], now), true // the rest follows, and is not worth a pause
	}
	if len(notices) > 0 && !now.Before(s.pauseLocked(now)) {
		return alertMessage(s.m.server, notices, now), true
	}
	if s.summaryDueLocked(now) {
		var alerts []Alert
		for _, a := range s.m.alertsLocked() {
			if s.r.wants(a.Key) {
				alerts = append(alerts, a)
			}
		}
		return summaryMessage(s.m.server, s.m.summary, alerts, s.r.about, now), true
	}
	return Message{}, false
}

// noticesLocked are those that are due, what is critical first, and how many more there are when quiet hours end. When one is due that tells of something
// again, then so are others that would be soon: else each would be a message of its own every day.
func (s *sender) noticesLocked(now time.Time) (notices []Notice, quiet int) {
	hushed := s.r.quiet(now, s.m.config.Zone)
	add := func(n Notice) {
		if hushed && n.Level != Critical {
			quiet++
			return
		}
		notices = append(notices, n)
	}
	repeat := s.r.repeat()
	var soon []Notice
	again := false
	for _, a := range s.m.alertsLocked() {
		if !s.r.wants(a.Key) {
			continue
		}
		known, ok := s.told.alerts[a.Key]
		since := now.Sub(known.At).Abs() // also when the clock was set back
		switch {
		case !ok, a.Level.above(known.Level):
			add(Notice{Status: Problem, Alert: a})
		case repeat <= 0 || since <= repeat/2:
		case hushed && a.Level != Critical:
			if since >= repeat {
				quiet++
			}
		default:
			soon = append(soon, Notice{Status: Reminder, Alert: a, told: true})
			again = again || since >= repeat
		}
	}
	if again {
		notices = append(notices, soon...)
	}
	for _, e := range s.told.ended {
		add(Notice{Status: Over, Alert: e.Alert, told: e.Told})
	}
	slices.SortStableFunc(notices, func(a, b Notice) int { return a.rank() - b.rank() })
	return notices, quiet
}

// summaryDueLocked tells whether it is time for a summary: not before a look has seen what there is, nor in quiet hours.
func (s *sender) summaryDueLocked(now time.Time) bool {
	schedule := s.r.Summary
	if schedule == "" {
		schedule = defaultSummary
	}
	if schedule == maintenance.Off || s.m.looked.IsZero() || s.r.quiet(now, s.m.config.Zone) {
		return false
	}
	if s.told.summary.After(now) {
		s.told.summary = now // the clock was set back
	}
	at, err := maintenance.NextTime(schedule, s.m.config.Zone, s.told.summary)
	return err == nil && !at.After(now)
}

// every is the interval of pings; 0: there are none.
func (s *sender) every() time.Duration {
	switch {
	case s.r.Type != Ping:
		return 0
	case s.r.Every > 0:
		return s.r.Every
	}
	return defaultEvery
}

// pingLocked is a ping, as long as looks are made.
func (s *sender) pingLocked(now time.Time) (Message, bool) {
	if s.m.looked.IsZero() || !s.m.looking.IsZero() && now.Sub(s.m.looking) >= hangs {
		return Message{}, false
	}
	var notices []Notice
	for _, a := range s.m.alertsLocked() {
		if s.r.wants(a.Key) && a.Level == Critical {
			notices = append(notices, Notice{Status: Problem, Alert: a})
		}
	}
	if len(notices) == 0 || !s.r.Fail {
		return Message{Server: s.m.server, Event: eventAlert, Title: s.m.server + " looks after its repositories", Time: now}, true
	}
	return alertMessage(s.m.server, notices, now), true
}

// delivered notes how a delivery ended.
func (s *sender) delivered(message Message, err error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	now, t := s.m.o.Now(), s.told
	if err != nil {
		wait, text := s.retryAfter(err, t.attempts), s.r.faultText(err)
		if t.attempts == 0 {
			t.since = now.UTC().Truncate(time.Second)
			s.m.o.Logger.Error("an alert could not be delivered; it is tried again", "receiver", s.r.Name, "type", string(s.r.Type), "to", s.r.to(), "retrying_in_seconds", wait.Seconds(), "error", text)
		}
		t.attempts++
		t.fault, t.next = text, now.Add(wait)
		return
	}
	if t.attempts > 0 {
		s.m.o.Logger.Info("alerts are delivered again", "receiver", s.r.Name, "to", s.r.to(), "failed_attempts", t.attempts)
	}
	t.attempts, t.since, t.fault, t.next = 0, time.Time{}, "", time.Time{}
	t.sent = now.UTC().Truncate(time.Second)
	switch {
	case s.r.Type == Ping:
		t.next = now.Add(s.every())
		return // which is not worth a write
	case message.Event == eventSummary:
		t.summary = now.UTC()
	default:
		for _, n := range message.Notices {
			s.toldLocked(n, now)
		}
		t.dropped = 0
		if len(message.Notices) < s.r.most() {
			t.recent = append(t.recent[max(0, len(t.recent)+1-crowd):], now)
		}
	}
	s.m.saveLocked()
}

// toldLocked notes that the receiver has a notice. The alert may have ended meanwhile.
func (s *sender) toldLocked(n Notice, now time.Time) {
	t := s.told
	same := func(e endedAlert) bool { return e.Key == n.Key && e.Since.Equal(n.Since) }
	if n.Status == Over {
		t.ended = slices.DeleteFunc(t.ended, same)
		return
	}
	if a := s.m.active[n.Key]; a != nil && a.Since.Equal(n.Since) {
		t.alerts[n.Key] = toldAlert{n.Key, n.Level, now.UTC().Truncate(time.Second)}
		return
	}
	if i := slices.IndexFunc(t.ended, same); i >= 0 {
		t.ended[i].Told = true
	}
}

// stateLocked is what the API shows.
func (s *sender) stateLocked(now time.Time) ReceiverState {
	t := s.told
	state := ReceiverState{
		Name: s.r.Name, Type: s.r.Type, To: s.r.to(), Sent: t.sent, Dropped: t.dropped, Failed: t.attempts, Since: t.since, Error: t.fault,
	}
	if t.attempts > 0 {
		state.Next = t.next.UTC().Truncate(time.Second)
	}
	if s.r.Type != Ping {
		notices, quiet := s.noticesLocked(now)
		state.Waiting, state.Quiet = len(notices), quiet
		if pause := s.pauseLocked(now); len(notices) > 0 && pause.After(now) && t.attempts == 0 {
			state.Next = pause.UTC().Truncate(time.Second)
		}
	}
	return state
}

// TestResult is how the delivery of a test message ended. Its JSON form is that of the API.
type TestResult struct {
	Name  string `json:"name"`
	Type  Type   `json:"type"`
	To    string `json:"to"`
	Error string `json:"error,omitempty"` // empty: it was accepted
}

// Test sends a test message to each receiver, or to that of a name, and returns how that ended; nil when there is no such receiver. Where it is accepted,
// what could not be delivered before is tried again at once.
func (m *Monitor) Test(ctx context.Context, name string) []TestResult {
	m.mu.Lock()
	var senders []*sender
	for _, s := range m.senders {
		if name == "" || s.r.Name == name {
			senders = append(senders, s)
		}
	}
	now, server := m.o.Now(), m.server
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, deliverIn)
	defer cancel()
	defer context.AfterFunc(m.tests, cancel)()
	results := make([]TestResult, len(senders))
	ended := make(chan int, len(senders))
	for i, s := range senders {
		go func() {
			results[i] = TestResult{Name: s.r.Name, Type: s.r.Type, To: s.r.to()}
			err := s.deliver.deliver(ctx, Message{
				Server: server, Event: eventTest, Title: server + ": test", Text: "This is a test: packhouse can reach you.", Notices: []Notice{}, Time: now.UTC().Truncate(time.Second),
			})
			switch {
			case err != nil && m.tests.Err() != nil:
				results[i].Error = "the server is stopping"
			case err != nil:
				results[i].Error = s.r.faultText(err)
			default:
				m.mu.Lock()
				s.told.retry()
				m.mu.Unlock()
				s.hint()
			}
			ended <- i
		}()
	}
	for range senders {
		<-ended
	}
	return results
}
