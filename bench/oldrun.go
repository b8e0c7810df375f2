package bench

import (
	"bytes"
	"encoding/json"
)

// newNames are the names of members that version 1 had other names for.
var newNames = map[string]string{"user": "user_seconds", "system": "system_seconds", "longest_stall": "longest_stall_seconds", "at": "at_seconds"}

// renamed gives the members of a run of version 1 the names that they have now.
func renamed(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var run any
	if err := d.Decode(&run); err != nil {
		return nil, err
	}
	rename(run)
	return json.Marshal(run)
}

func rename(value any) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			rename(element)
		}
	case map[string]any:
		for old, name := range newNames {
			if member, ok := v[old]; ok {
				delete(v, old)
				v[name] = member
			}
		}
		for _, member := range v {
			rename(member)
		}
	}
}
