package sampling_test

import (
	"slices"
	"testing"

	"packhouse/internal/sampling"
)

// draw tells which of 400 cases are tried, in groups of 4.
func draw(t *testing.T) (taken []int) {
	t.Helper()
	share := sampling.NewShare(t, 4)
	for n := range 400 {
		if share.Takes() {
			taken = append(taken, n)
		}
	}
	return taken
}

func TestShare(t *testing.T) {
	t.Setenv(sampling.Exhaustive, "")
	t.Setenv(sampling.SeedVariable, "")
	first := draw(t)
	for i, n := range first {
		if n/4 != i {
			t.Fatalf("got %v, want one of each group", first)
		}
	}
	if len(first) != 100 || slices.Equal(first, draw(t)) {
		t.Errorf("got the %d cases %v twice, want 100 that differ", len(first), first)
	}
	t.Setenv(sampling.SeedVariable, "7")
	if !slices.Equal(draw(t), draw(t)) {
		t.Error("the same seed takes other cases")
	}
	t.Setenv(sampling.Exhaustive, "1")
	if all := draw(t); len(all) != 400 {
		t.Errorf("got %d cases, want all", len(all))
	}
}
