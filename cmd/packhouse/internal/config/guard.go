package config

import (
	"fmt"
	"strconv"
	"strings"

	"packhouse/repo"
)

// MaxKeepLast is the most of keep_last.
const MaxKeepLast = 10_000

// ParseGuard reads what happens to the removal of snapshots younger than min_age: refuse tells that it is refused.
func ParseGuard(text string) (refuse bool, err error) {
	switch text {
	case "keep":
		return false, nil
	case "refuse":
		return true, nil
	}
	return false, fmt.Errorf(`%q is not "keep" (removed snapshots can be restored until they are min_age old) or "refuse"`, text)
}

// guardText is what ParseGuard reads.
func guardText(refuse bool) string {
	if refuse {
		return "refuse"
	}
	return "keep"
}

// ParseMaxRemoved reads a number of snapshots, "20%" of them, or "none".
func ParseMaxRemoved(text string) (most repo.MaxRemoved, err error) {
	if text == "none" {
		return most, nil
	}
	bad := fmt.Errorf(`%q is not a number of snapshots above 0, a share such as "20%%", or "none"`, text)
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(f > 0 && f <= 100) {
			return most, bad
		}
		return repo.MaxRemoved{Share: f / 100}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return most, bad
	}
	return repo.MaxRemoved{Count: n}, nil
}

// checkGuard returns what is wrong with rules together.
func checkGuard(g repo.Guard) error {
	if g.Refuse && g.MinAge == 0 {
		return fmt.Errorf(`guard = "refuse" refuses the removal of snapshots younger than min_age, which is not set: set it, for example to "7d"`)
	}
	return nil
}

// maxRemovedText is what ParseMaxRemoved reads.
func maxRemovedText(most repo.MaxRemoved) string {
	switch {
	case most.Share > 0:
		return strconv.FormatFloat(most.Share*100, 'g', -1, 64) + "%"
	case most.Count > 0:
		return strconv.FormatInt(most.Count, 10)
	}
	return "none"
}
