package api

import (
	"errors"
	"math"
	"strings"
)

// SplitRange splits a Range header of exactly one range in bytes: "bytes=2-4" is "2" and "4", "bytes=-3" is "" and "3". ok is
// false for any other form: another unit, several ranges, no dash or several, no number. Whether the parts are valid
// numbers is checked by the dialect.
func SplitRange(header string) (first, last string, ok bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return "", "", false
	}
	first, last, ok = strings.Cut(spec, "-")
	if !ok || strings.Contains(last, "-") || first == "" && last == "" {
		return "", "", false
	}
	return first, last, true
}

// ParseOffset reads a decimal number that has only digits. Above 2^63-1 it returns that and ErrOverflow, so that the caller can
// use it as a maximum; any other error is ErrNumber.
func ParseOffset(text string) (int64, error) {
	if text == "" {
		return 0, ErrNumber
	}
	var n int64
	overflow := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, ErrNumber
		}
		if n > (math.MaxInt64-int64(c-'0'))/10 {
			overflow = true
		}
		if !overflow {
			n = n*10 + int64(c-'0')
		}
	}
	if overflow {
		return math.MaxInt64, ErrOverflow
	}
	return n, nil
}

// The errors of ParseOffset.
var (
	ErrNumber   = errors.New("not a decimal number")
	ErrOverflow = errors.New("number too large")
)

// Clip cuts a range to what an item of size bytes has of it: a range that begins at or after the
// end is empty there. All arguments must be >= 0.
func Clip(offset, length, size int64) (int64, int64) {
	offset = min(offset, size)
	return offset, min(length, size-offset)
}
