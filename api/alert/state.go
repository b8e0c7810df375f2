package alert

import "time"

// State is what the API shows. Its JSON form is that of the answer.
type State struct {
	Alerts    []Alert         `json:"alerts"`
	Receivers []ReceiverState `json:"receivers"`
	Looked    time.Time       `json:"looked,omitzero"`        // when the last look began that has ended; zero: none has
	Hanging   time.Time       `json:"looking_since,omitzero"` // of one that is under way for long
}

// ReceiverState is what is known of one receiver.
type ReceiverState struct {
	Name    string    `json:"name"`
	Type    Type      `json:"type"`
	To      string    `json:"to"` // without secrets
	Sent    time.Time `json:"last_sent,omitzero"`
	Waiting int       `json:"waiting"` // alerts of which it is still to be told, which does not count those of quiet hours
	Quiet   int       `json:"quiet"`   // those that wait for the end of quiet hours
	Dropped int64     `json:"dropped,omitempty"`
	Failed  int       `json:"failed_attempts,omitempty"` // since the last success
	Since   time.Time `json:"failing_since,omitzero"`
	Error   string    `json:"error,omitempty"` // of the last attempt
	Next    time.Time `json:"next_attempt,omitzero"`
}

// State returns what is wrong, and what receivers know of it.
func (m *Monitor) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := State{Alerts: m.alertsLocked(), Receivers: []ReceiverState{}, Looked: m.looked.UTC().Truncate(time.Second)}
	now := m.o.Now()
	if !m.looking.IsZero() && now.Sub(m.looking) >= hangs {
		s.Hanging = m.looking.UTC().Truncate(time.Second)
	}
	if m.looked.IsZero() {
		s.Looked = time.Time{}
	}
	for _, one := range m.senders {
		s.Receivers = append(s.Receivers, one.stateLocked(now))
	}
	return s
}
