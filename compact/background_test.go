package compact_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"packhouse/compact"
)

// TestBackground: a request that works in the background reads slowly while others are answered, of which it is none itself.
func TestBackground(t *testing.T) {
	answered := 0
	e := compact.New(compact.Options{Busy: func() int { return answered }})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	pace, end := e.Background()
	defer end()
	const much = 1 << 40
	answered = 1 // itself
	if err := pace(t.Context(), much); err != nil {
		t.Errorf("alone: %v", err)
	}
	answered = 2
	// What would have to wait for longer than that ends at once.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := pace(ctx, much); !errors.Is(err, context.Canceled) {
		t.Errorf("beside a client: got %v, want it to wait", err)
	}
	end()
	end()
	pace, other := e.Background()
	defer other()
	answered = 1
	if err := pace(t.Context(), much); err != nil {
		t.Errorf("another, alone: %v", err)
	}
}
