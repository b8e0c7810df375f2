package policy_test

import (
	"testing"

	"pgregory.net/rapid"

	"packhouse/repo/policy"
)

// TestIntersect holds Intersect against what it stands for: both must grant.
func TestIntersect(t *testing.T) {
	prefix := rapid.SampledFrom([]string{"", "a", "a/b", "a/b/c", "d", "d/e"})
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("lrwWD")), 0, 5, -1)
	table := rapid.Custom(func(t *rapid.T) *policy.Permissions {
		if rapid.IntRange(0, 9).Draw(t, "nil") == 0 {
			return nil
		}
		p, err := policy.New(rapid.MapOf(prefix, letters).Draw(t, "table"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := table.Draw(t, "a"), table.Draw(t, "b")
		both := policy.Intersect(a, b)
		for _, key := range []string{"", "a", "a/b", "a/b/c", "a/b/c/d", "a/x", "d", "d/e", "d/e/f", "z", "z/y"} {
			for _, letter := range []string{"l", "r", "w", "W", "D"} {
				got, want := both.Allows(key, letter), a.Allows(key, letter) && b.Allows(key, letter)
				if got != want {
					t.Errorf("%s on %q: got %v, want %v (a %s, b %s)", letter, key, got, want, a, b)
				}
			}
		}
	})
}

func TestNothingGrantsNothing(t *testing.T) {
	if policy.Nothing().Allows("packs/00", "lrwWD") {
		t.Error("Nothing allows something")
	}
}
