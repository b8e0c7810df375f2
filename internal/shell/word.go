// Package shell writes what is to be typed in a shell, for messages that say what to do.
package shell

import (
	"regexp"
	"strings"
)

// Word is a word of a command line, in quotes where a shell would not take it as it is.
func Word(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// plain is what a shell takes as it is. A word that begins with '~' or has '=' may be taken for something else only by itself, or at its begin.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-][A-Za-z0-9_./:@%+=,~-]*$`)
