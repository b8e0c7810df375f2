package repo

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
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

// NewPermissions checks a map of prefixes to letters: prefixes are "" or valid keys.
func NewPermissions(table map[string]string) (*Permissions, error) {
	p := &Permissions{letters: make(map[string]string, len(table))}
	for prefix, letters := range table {
		if prefix != "" {
			if err := keys.Check(prefix); err != nil {
				return nil, fmt.Errorf("permissions for %q: %w", prefix, err)
			}
		}
		if i := strings.IndexFunc(letters, func(c rune) bool { return !strings.ContainsRune("lrwWD", c) }); i >= 0 {
			return nil, Errorf(ErrInvalid, "permissions for %q: unknown letter %q; known are l, r, w, W, D", prefix, letters[i:i+1])
		}
		p.letters[prefix] = letters
	}
	return p, nil
}

// everything grants all letters on all keys, spelled out.
var everything = map[string]string{"": "lrwWD"}

// presets cover borg's former namespace data/ and its present ones packs/ and index/.
// Source: borgstore-rest 3.10, tables of borgstore and of BorgBackup 2.
var presets = map[string]map[string]string{
	"borgbackup-all": everything,
	"borgbackup-no-delete": {
		"": "lr", "archives": "lrw", "cache": "lrwWD", "config": "lrW", "data": "lrw", "index": "lrwWD",
		"keys": "lr", "locks": "lrwD", "packs": "lrw",
	},
	"borgbackup-write-only": {
		"": "l", "archives": "lw", "cache": "lrwWD", "config": "lrW", "data": "lw", "index": "lrwWD",
		"keys": "lr", "locks": "lrwD", "packs": "lw",
	},
	"borgbackup-read-only": {"": "lr", "locks": "lrwD"},
}

// Presets are the names ParsePermissions knows.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// ParsePermissions reads a preset's name or a JSON object of prefix to letters. "" and "null" mean
// no restriction (nil). Unlike the reference, {} grants nothing: an empty table is a table.
func ParsePermissions(text string) (*Permissions, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "null" {
		return nil, nil
	}
	if table, ok := presets[text]; ok {
		return NewPermissions(table)
	}
	if !strings.HasPrefix(text, "{") {
		return nil, Errorf(ErrInvalid, "permissions %q: expected a JSON object such as {\"\": \"lr\", \"locks\": \"lrwD\"} or one of %s",
			text, strings.Join(Presets(), ", "))
	}
	var table map[string]string
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&table); err != nil {
		return nil, Errorf(ErrInvalid, "permissions: not a JSON object of strings: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, Errorf(ErrInvalid, "permissions: text after the JSON object")
	}
	return NewPermissions(table)
}

// String is the JSON form, which ParsePermissions reads back; "null" for nil.
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

// check is Allows as an error.
func (p *Permissions) check(key, letters string) error {
	if p.Allows(key, letters) {
		return nil
	}
	return &DeniedError{Letters: letters, Key: key}
}
