package policy_test

import (
	"errors"
	"strings"
	"testing"

	"packhouse/repo/keys"
	"packhouse/repo/policy"
)

func TestPermissionsMostSpecificWins(t *testing.T) {
	p, err := policy.Parse(`{"": "lr", "packs": "lrw", "packs/ab": "", "locks": "lrwWD"}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key, letters string
		want         bool
	}{
		{"", "l", true},
		{"config", "w", false},
		{"packs", "w", true},
		{"packs/cd/x", "w", true},
		{"packs/cd/x", "D", false},
		{"packs/ab", "r", false}, // an entry that grants nothing still decides
		{"packs/ab/x", "lr", false},
		{"packs/abc", "w", true}, // prefixes are whole components
		{"locksmith", "D", false},
		{"locks/1", "D", true},
	} {
		if got := p.Allows(test.key, test.letters); got != test.want {
			t.Errorf("Allows(%q, %q) = %v, want %v", test.key, test.letters, got, test.want)
		}
		key := []byte(test.key)
		if got := p.AllowsBytes(key, test.letters); got != test.want {
			t.Errorf("AllowsBytes(%q, %q) = %v, want %v", key, test.letters, got, test.want)
		}
		if n := testing.AllocsPerRun(10, func() { p.AllowsBytes(key, test.letters) }); n > 0 {
			t.Errorf("AllowsBytes(%q, %q) takes %v allocations", key, test.letters, n)
		}
	}
}

func TestPermissionsBelow(t *testing.T) {
	p, err := policy.Parse(`{"": "lr", "packs": "lrw", "packs/ab": "r", "locks": "lrwWD", "locks/x": "l"}`)
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{"": false, "packs": false, "packs/ab": true, "packs/a": true, "locks": true, "config": true} {
		if got := p.AllowsBelow(dir, "l"); got != want {
			t.Errorf("AllowsBelow(%q) = %v, want %v", dir, got, want)
		}
	}
	if all := (*policy.Permissions)(nil); !all.AllowsBelow("", "l") || !all.AllowsBytes([]byte("a"), "l") {
		t.Error("without a table something is denied")
	}
}

func TestPermissionsUnmentionedRootIsDenied(t *testing.T) {
	p, err := policy.Parse(`{"a": "lr"}`)
	if err != nil {
		t.Fatal(err)
	}
	if p.Allows("b", "r") || p.Allows("", "l") || !p.Allows("a/b", "r") {
		t.Errorf("rules of %s leak beyond a", p)
	}
	// The reference takes {} for "everything"; here an empty table is a table.
	if p, err = policy.Parse(`{}`); err != nil || p.Allows("", "l") {
		t.Errorf("{}: %v allows, %v", p, err)
	}
	if p, err = policy.Parse("null"); err != nil || p != nil || !p.Allows("x", "D") {
		t.Errorf("null: got %v, %v; want no restriction", p, err)
	}
}

func TestPermissionsGrantNothing(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "{}": true, `{"": ""}`: true, `{"": "", "locks": ""}`: true, `{"": "l"}`: false, `{"": "", "locks": "D"}`: false,
	} {
		p, err := policy.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.GrantNothing(); got != want {
			t.Errorf("GrantNothing of %q = %v, want %v", text, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"borgbackup-reed-only":  "borgbackup-read-only",
		`["l"]`:                 "JSON object",
		`{"a": 1}`:              "JSON object",
		`{"a": "lx"}`:           `"x"`,
		`{"a/": "l"}`:           "components",
		`{"../a": "l"}`:         "components",
		`{"a": "l"} {"b": "l"}`: "after",
		`{"a": "l"}}`:           "after",
		`{"a": "l"}]`:           "after",
		`{"a": "l"`:             "JSON",
	} {
		if _, err := policy.Parse(text); !errors.Is(err, keys.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%s): got %v, want one that mentions %s", text, err, want)
		}
	}
}

// TestPresets holds the tables of the contract, old namespaces and new.
func TestPresets(t *testing.T) {
	all := "lrwWD"
	for preset, rows := range map[string]map[string]string{
		"borgbackup-all":        {"": all, "packs/ab/x": all, "locks/x": all},
		"borgbackup-no-delete":  {"": "lr", "archives/x": "lrw", "cache/x": all, "config/x": "lrW", "data/x": "lrw", "index/x": all, "keys/x": "lr", "locks/x": "lrwD", "packs/ab/x": "lrw"},
		"borgbackup-write-only": {"": "l", "archives/x": "lw", "cache/x": all, "config/x": "lrW", "data/x": "lw", "index/x": all, "keys/x": "lr", "locks/x": "lrwD", "packs/ab/x": "lw"},
		"borgbackup-read-only":  {"": "lr", "packs/ab/x": "lr", "locks/x": "lrwD"},
	} {
		p, err := policy.Parse(preset)
		if err != nil {
			t.Fatal(err)
		}
		for key, granted := range rows {
			for _, letter := range all {
				if got, want := p.Allows(key, string(letter)), strings.ContainsRune(granted, letter); got != want {
					t.Errorf("%s: %c on %q: got %v, want %v", preset, letter, key, got, want)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"": "lr", "a/b": "W"}`)
	f.Add("borgbackup-all")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse(text)
		if err != nil || p == nil {
			return
		}
		again, err := policy.Parse(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%s does not read back: %v, %v", p, again, err)
		}
	})
}
