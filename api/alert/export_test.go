package alert

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"packhouse/repo/datadir"
)

// Condition is one that a look sees.
type Condition struct {
	Key
	Level Level
	Text  string
}

// See notes a look that sees these conditions, and nothing of some repositories.
func (m *Monitor) See(conditions []Condition, unseen ...string) {
	s := &sight{unseen: make(map[string]bool), there: map[string]bool{}}
	for _, c := range conditions {
		s.conditions = append(s.conditions, condition{c.Key, c.Level, c.Text})
		s.there[c.Repository] = true
	}
	for _, name := range unseen {
		s.unseen[name], s.there[name] = true, true
	}
	m.mu.Lock()
	m.looking = m.o.Now()
	for key := range m.events {
		s.there[key.Repository] = true
	}
	m.mu.Unlock()
	m.note(s)
}

// SeeNothing notes a look that could not see any repository.
func (m *Monitor) SeeNothing() {
	m.mu.Lock()
	m.looking = m.o.Now()
	m.mu.Unlock()
	m.note(&sight{blind: true})
}

// Deliver delivers what is due for a receiver.
func (m *Monitor) Deliver(name string) {
	for _, s := range m.senders {
		if s.r.Name == name {
			for s.one() {
			}
		}
	}
}

// DeliverBy has messages for a receiver delivered by a function.
func (m *Monitor) DeliverBy(name string, deliver func(context.Context, Message) error) {
	for _, s := range m.senders {
		if s.r.Name == name {
			s.deliver = by(deliver)
		}
	}
}

type by func(context.Context, Message) error

func (f by) deliver(ctx context.Context, m Message) error { return f(ctx, m) }

// DeliverMessage delivers one message to a receiver, as the monitor would. The error is as it is shown.
func DeliverMessage(ctx context.Context, r Receiver, m Message, roots ...*x509.CertPool) error {
	o := Options{Server: "here", Version: "1", Environ: []string{"PATH=/usr/bin:/bin"}}
	if len(roots) > 0 {
		o.RootCAs = roots[0]
	}
	if err := New(o).delivererOf(r).deliver(ctx, m); err != nil {
		return shownError{r.faultText(err), err}
	}
	return nil
}

type shownError struct {
	text string
	error
}

func (e shownError) Error() string { return e.text }
func (e shownError) Unwrap() error { return e.error }

// AfterFailure is how long a receiver that has failed so often before is not tried again, after one more error.
func AfterFailure(r Receiver, err error, before int) time.Duration {
	return (&sender{r: r}).retryAfter(err, before)
}

// Hang makes a look that has begun at a time, and has not ended.
func (m *Monitor) Hang(since time.Time) {
	m.mu.Lock()
	m.looking = since
	m.mu.Unlock()
	m.noteHanging()
}

// Flush writes what is to be written.
func (m *Monitor) Flush() {
	select {
	case f := <-m.store.next:
		m.store.write(f)
	default:
	}
}

// Look is what a look at a set sees.
func (m *Monitor) Look(set *datadir.Set) (conditions []Condition, unseen []string) {
	s := m.look(set, &m.config)
	for _, c := range s.conditions {
		conditions = append(conditions, Condition{c.Key, c.level, c.text})
	}
	return conditions, slices.Sorted(maps.Keys(s.unseen))
}

// StoredTold is of how many alerts a receiver was told, as a file has it.
func StoredTold(path, name string) (int, error) {
	f, err := decodeFile(path)
	return len(f.Receivers[name].Told), err
}

// Figures are those of a repository in a summary.
type Figures struct {
	Name       string
	Bytes      int64
	LastBackup time.Time
}

// SeeFigures notes a look that sees repositories with these figures, in order, and nothing of some others.
func (m *Monitor) SeeFigures(all []Figures, unseen ...string) {
	s := &sight{there: map[string]bool{}}
	for _, f := range all {
		s.summary.repositories = append(s.summary.repositories, repositorySummary{f.Name, f.Bytes, 0, f.LastBackup})
	}
	s.summary.unseen = unseen
	m.mu.Lock()
	m.looking = m.o.Now()
	m.mu.Unlock()
	m.note(s)
}
