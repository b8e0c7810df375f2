package policy

import (
	"encoding/json"
	"fmt"
	"strings"

	"packhouse/repo/keys"
)

// Permissions maps key prefixes to letters: l list names and sizes, r read
// content, w store new items, W overwrite items, D delete. The entry of
// the longest prefix (whole components; "" is the root) that matches a key decides alone.
// A nil *Permissions allows everything; an empty map nothing.
type Permissions struct {
	letters map[string]string
}

// All is every letter.
const All = "lrwWD"

// New checks a map of prefixes to letters: prefixes are "" or valid keys.
func New(table map[string]string) (*Permissions, error) {
	p := &Permissions{letters: make(map[string]string, len(table))}
	for prefix, letters := range table {
		if prefix != "" {
			if err := keys.Check(prefix); err != nil {
				return nil, fmt.Errorf("permissions for %q: %w", prefix, err)
			}
		}
		if i := strings.IndexFunc(letters, func(c rune) bool { return !strings.ContainsRune(All, c) }); i >= 0 {
			return nil, invalid("permissions for %q: unknown letter %q; known are l, r, w, W, D", prefix, letters[i:i+1])
		}
		p.letters[prefix] = letters
	}
	return p, nil
}

// String is the JSON form, which Parse reads back; "null" for nil.
func (p *Permissions) String() string {
	if p == nil {
		return "null"
	}
	text, err := json.Marshal(p.letters)
	if err != nil {
		return "{}" // a map of strings always encodes
	}
	return string(text)
}

// Allows tells whether any of letters is granted on key ("" is the root).
func (p *Permissions) Allows(key, letters string) bool {
	if p == nil {
		return true
	}
	for {
		if granted, ok := p.letters[key]; ok {
			return strings.ContainsAny(granted, letters)
		}
		if key == "" {
			return false
		}
		key = key[:max(strings.LastIndexByte(key, '/'), 0)]
	}
}

// GrantNothing tells whether no letter is granted on any key.
func (p *Permissions) GrantNothing() bool {
	if p == nil {
		return false
	}
	for _, granted := range p.letters {
		if granted != "" {
			return false
		}
	}
	return true
}
