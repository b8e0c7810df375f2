package policy

import (
	"encoding/json"
	"io"
	"sort"
	"strings"
)

// Parse reads a preset's name or a JSON object of prefix to letters. "" and "null" mean
// no restriction (nil). Unlike the reference, {} grants nothing: an empty table is a table.
func Parse(text string) (*Permissions, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "null" {
		return nil, nil
	}
	if table, ok := presets[text]; ok {
		return New(table)
	}
	if !strings.HasPrefix(text, "{") {
		return nil, invalid("permissions %q: expected a JSON object such as {\"\": \"lr\", \"locks\": \"lrwD\"} or one of %s",
			text, strings.Join(Names(), ", "))
	}
	var table map[string]string
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&table); err != nil {
		return nil, invalid("permissions: not a JSON object of strings: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, invalid("permissions: text after the JSON object")
	}
	return New(table)
}

// Names are the names that Parse knows.
func Names() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
