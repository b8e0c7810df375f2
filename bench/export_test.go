package bench

import (
	"context"
	"time"
)

// What tests reach of the package's insides.

// NewBody and Stamp make items.
var (
	NewBody = newBody
	Stamp   = stamp
)

// StartStore makes a store of s in scratch and starts its server.
func StartStore(ctx context.Context, scratch string, s Server, items int) (*Store, error) {
	store, err := newStore(ctx, scratch, s, &nameCache{}, nil, items)
	if err != nil {
		return nil, err
	}
	return store, store.start(ctx, startOptions{})
}

// Remove ends the server and removes its store.
func (s *Store) Remove() error { return s.remove() }

// CPU is the processor time of the store's server.
func (s *Store) CPU() (CPU, error) { return s.process.cpu() }

// OthersSince measures other load as a sample does: the returned function tells what it was since the call.
func (s *Store) OthersSince() (func() (float64, error), error) {
	before, err := s.usage()
	return func() (float64, error) {
		after, err := s.usage()
		return after.others(before), err
	}, err
}

// CompactByClient is what clients do whose server has no request for it.
var CompactByClient = compactByClient

// JudgeRun judges a run as a Bench does.
func JudgeRun(r *Run) {
	for i := range r.Workloads {
		r.Workloads[i].judge(r.Settings.Rounds)
	}
	r.judge()
}

// Recorder is a clock that a test ticks.
type Recorder struct{ *clock }

// NewRecorder begins at the time that now says.
func NewRecorder(step time.Duration, now func() time.Time) Recorder {
	return Recorder{newClock(step, now)}
}

func (r Recorder) Tick()               { r.tick() }
func (r Recorder) Timeline() *Timeline { return r.timeline() }
