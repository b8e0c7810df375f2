package holder

import "testing"

// TestTrusts: nobody but root asks another user's process, and everybody may ask root's.
func TestTrusts(t *testing.T) {
	for _, test := range []struct {
		user, peer int
		want       bool
	}{{1000, 1000, true}, {1000, 1001, false}, {1000, 0, true}, {0, 1000, true}} {
		if got := trusts(test.user, test.peer); got != test.want {
			t.Errorf("trusts(%d, %d): got %v, want %v", test.user, test.peer, got, test.want)
		}
	}
}
