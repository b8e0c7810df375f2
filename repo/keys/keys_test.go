package keys_test

import (
	"strings"
	"testing"

	"packhouse/repo/keys"
)

// FuzzClean: what passes Check after cleaning is its own only spelling.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"a", "./a", "a//b", "a/../b", "a/.", "..", "a\\b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		key := keys.Clean(name)
		if keys.Check(key) != nil {
			return
		}
		if again := keys.Clean(key); again != key {
			t.Errorf("%q cleans to %q, and that to %q", name, key, again)
		}
		for _, component := range strings.Split(key, "/") {
			if component == "" || component == "." || component == ".." {
				t.Errorf("%q has component %q", key, component)
			}
		}
	})
}
