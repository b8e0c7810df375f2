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
	return p == nil || allows(p.letters, key, letters)
}

// AllowsBytes is Allows for a key that is no string yet. It allocates nothing.
func (p *Permissions) AllowsBytes(key []byte, letters string) bool {
	return p == nil || allows(p.letters, key, letters)
}

func allows[K string | []byte](table map[string]string, key K, letters string) bool {
	for {
		if granted, ok := table[string(key)]; ok {
			return strings.ContainsAny(granted, letters)
		}
		if len(key) == 0 {
			return false
		}
		end := len(key) - 1
		for end > 0 && key[end] != '/' {
			end--
		}
		key = key[:end]
	}
}

// AllowsBelow tells whether any of letters is granted on each key below dir, where it is on dir.
func (p *Permissions) AllowsBelow(dir, letters string) bool {
	if p == nil {
		return true
	}
	for prefix, granted := range p.letters {
		if (dir == "" || strings.HasPrefix(prefix, dir+"/")) && prefix != dir && !strings.ContainsAny(granted, letters) {
			return false
		}
	}
	return true
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
