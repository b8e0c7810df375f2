package adoption_test

import (
	"os"
	"path/filepath"
	"testing"

	"packhouse/bench/adoption"
)

// TestRounds: both ways come to their end, and leave the source as it was prepared.
func TestRounds(t *testing.T) {
	w := adoption.Workload{Dir: t.TempDir(), Files: 300, Size: 1 << 20}
	if err := w.Prepare(t.Context(), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	rounds := 0
	err := w.Rounds(t.Context(), 2, func(plain, adopted adoption.Figures) error {
		rounds++
		if plain.Way != adoption.Plain || adopted.Way != adoption.Adopt || plain.Rate() <= 0 || adopted.Rate() <= 0 || len(adopted.Steps) < 3 || adopted.Memory == 0 {
			t.Errorf("got %+v, %+v", plain, adopted)
		}
		return nil
	})
	if err != nil || rounds != 2 {
		t.Errorf("%d rounds, %v", rounds, err)
	}
	packs, err := filepath.Glob(filepath.Join(w.Dir, "source", "packs", "*", "*"))
	if err != nil || len(packs) != 300 {
		t.Errorf("%d packs, %v", len(packs), err)
	}
	if left, err := os.ReadDir(w.Dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
