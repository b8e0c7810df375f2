package borgstore

import (
	"encoding/binary"
	"strconv"
	"strings"

	"packhouse/repo/keys"
)

// checkName applies the protocol's rules to a name. The empty name is valid: it is the root.
func checkName(name string) error {
	if rule := keys.BorgStoreRule(name); rule != "" {
		return nameError(rule, name)
	}
	return nil
}

// plain tells whether a name, or a part of one, consists of lower case letters and digits only, at most keys.MaxBorgStore: checkName accepts all
// of these, and nearly all names in a long listing are such.
func plain(name []byte) bool {
	const each = 0x01_01_01_01_01_01_01_01
	if len(name) == 0 || len(name) > keys.MaxBorgStore {
		return false
	}
	for ; len(name) >= 8; name = name[8:] {
		// The high bit of each byte of from(c) tells whether the byte there is c or more; none is above 0x7f.
		eight := binary.LittleEndian.Uint64(name)
		from := func(c uint64) uint64 { return eight + (0x80-c)*each }
		if eight&(0x80*each) != 0 || (from('0')&^from('9'+1)|from('a')&^from('z'+1))&(0x80*each) != 0x80*each {
			return false
		}
	}
	for _, c := range name {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// cleanName checks a name and gives it its one spelling, the one that permissions and index know: "./a"
// and "b//c" are "a" and "b/c".
func cleanName(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	key := keys.Clean(name)
	if key == "" && name != "" {
		return "", nameError("name must not consist of dots only", name)
	}
	if key != "" {
		if err := keys.Check(key); err != nil {
			return "", err
		}
	}
	return key, nil
}

// nameError is a rule's message, which ends with the name.
func nameError(message, name string) error { return badRequest("%s: %s", message, printable(name)) }

// printable is text without what could upset a terminal or end a line, and of bounded length.
func printable(text string) string {
	const shown = 300
	cut := ""
	if len(text) > shown {
		text, cut = text[:shown], "…"
	}
	clean := true
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < 0x20 || c >= 0x7f {
			clean = false
		}
	}
	if !clean {
		quoted := strconv.Quote(text)
		text = quoted[1 : len(quoted)-1]
	}
	return text + cut
}

func trimSlashes(path string) string { return strings.Trim(path, "/") }
