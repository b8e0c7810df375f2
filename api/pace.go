package api

import (
	"fmt"
	"time"
)

// minPace is how long a body or a response may take before its average rate is looked at: clients pause for minutes.
const minPace = 10 * time.Minute

// pace measures how fast a client sends or reads, while the server waits for it. Not safe for concurrent use.
type pace struct {
	now   func() time.Time
	least int64 // bytes a second; 0: any
	bytes int64
	took  time.Duration
}

// slowError tells that a client was too slow to be waited for any longer.
type slowError struct{ rate, least int64 }

func (e *slowError) Error() string {
	return fmt.Sprintf("the client was too slow: %d bytes a second on average, at least %d are expected (setting min_rate)", e.rate, e.least)
}

// step adds n bytes for which the server has waited since began. The error is a *slowError.
func (p *pace) step(n int, began time.Time) error {
	if p.least <= 0 {
		return nil
	}
	p.bytes += int64(n)
	p.took += p.now().Sub(began)
	if p.took < minPace {
		return nil
	}
	if rate := int64(float64(p.bytes) / p.took.Seconds()); rate < p.least {
		return &slowError{rate, p.least}
	}
	return nil
}
