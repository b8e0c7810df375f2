package adopt

import (
	"strings"
	"testing"
)

// TestResticNames: which file is which object, and where an object lies.
func TestResticNames(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name string
		use  use
		key  string // "": refused
	}{
		{"config", item, "config"},
		{"data/ab/" + id, item, "data/" + id},
		{"keys/" + id, item, "keys/" + id},
		{"locks/" + id, item, "locks/" + id},
		{"data/ab/" + id + ".rest-server-temp123", skipped, ""},
		{"data/ab/" + id + "-tmp-4711", skipped, ""},
		{".htpasswd", skipped, ""},
		{"public_key", skipped, ""},
		{"laptop/keys/" + id, skipped, ""},
		{"alice/laptop/data/ab/" + id, skipped, ""},
		{"data/" + id, 0, ""},
		{"data/cd/" + id, 0, ""},
		{"data/ab/x/" + id, 0, ""},
		{"keys/ab/" + id, 0, ""},
		{"keys/" + strings.ToUpper(id), 0, ""},
		{"snapshots/x", 0, ""},
		{"README", 0, ""},
		{"laptop/photo.jpg", 0, ""},
		{"config/x", 0, ""},
	} {
		l := restic{}
		use, algorithm, err := l.file(tt.name)
		switch refused := tt.key == "" && tt.use == item; {
		case refused != (err != nil):
			t.Errorf("%s: %v", tt.name, err)
		case refused:
		case use != tt.use:
			t.Errorf("%s: use %v", tt.name, use)
		case use == item:
			if key := l.key(tt.name); key != tt.key || l.path(key) != tt.name {
				t.Errorf("%s: key %s, which lies in %s", tt.name, key, l.path(key))
			}
			if named := tt.key != "config"; named != (algorithm == "sha256") {
				t.Errorf("%s: algorithm %q", tt.name, algorithm)
			}
		}
	}
}
