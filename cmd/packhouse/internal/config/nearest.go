package config

import "strings"

// Nearest returns the candidate that text was probably meant to be, or "": at most
// two slips of the finger away (one for short words), or the same but for '-', '_' and case.
func Nearest(text string, candidates []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
	}
	best, least := "", 3
	for _, c := range candidates {
		d := distance(plain(text), plain(c))
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

// distance counts the insertions, deletions, replacements and swaps of neighbours between two words.
func distance(a, b string) int {
	before := make([]int, len(b)+1) // two rows back
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
