package alert

import (
	"context"
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
func (m *Monitor) SeeNothing() { m.note(&sight{blind: true}) }

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

// DeliverMessage delivers one message to a receiver, as the monitor would.
func DeliverMessage(ctx context.Context, r Receiver, m Message) error {
	return New(Options{Server: "here", Version: "1", Environ: []string{"PATH=/usr/bin:/bin"}}).delivererOf(r).deliver(ctx, m)
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
