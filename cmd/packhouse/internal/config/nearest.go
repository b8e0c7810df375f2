package config

import (
	"strings"

	"github.com/hbollon/go-edlib"
)

// Nearest returns the candidate that text was probably meant to be, or "": at most
// two slips of the finger away (one for short words), or the same but for '-', '_' and case.
func Nearest(text string, candidates []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
	}
	best, least := "", 3
	for _, c := range candidates {
		d := edlib.OSADamerauLevenshteinDistance(plain(text), plain(c)) // a swap of neighbours is one slip
		if len(c) <= 4 {
			d *= 2
		}
		if d < least {
			best, least = c, d
		}
	}
	if best != "" {
		return best
	}
	for _, c := range candidates {
		if len(text) >= 4 && (strings.Contains(c, text) || strings.Contains(text, c)) {
			return c
		}
	}
	return ""
}
