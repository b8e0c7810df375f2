package borgstore

import (
	"strings"

	"packhouse/api"
)

// parseRange reads a Range header as the protocol means it: what is no range of bytes is the
// whole object, and no range is beyond the end: it is empty there. It returns the part of an object of size
// bytes to send. Source: borgstore-rest 3.4.
func parseRange(header string, size int64) (offset, length int64, err error) {
	first, last, ok := api.SplitRange(header)
	if !ok {
		return 0, size, nil
	}
	from, fromErr := parseNumber(first)
	to, toErr := parseNumber(last)
	switch {
	case fromErr == api.ErrNumber && strings.TrimSpace(first) != "", toErr == api.ErrNumber && strings.TrimSpace(last) != "",
		fromErr == api.ErrNumber && toErr == api.ErrNumber:
		return 0, size, nil
	case fromErr == api.ErrOverflow:
		return 0, 0, badRequest("range begins beyond the largest offset: %s", printable(header))
	case strings.TrimSpace(first) == "":
		if to == 0 {
			return 0, size, nil // "-0" is no suffix at all
		}
		length = min(to, size)
		return size - length, length, nil
	case strings.TrimSpace(last) == "":
		offset, length = api.Clip(from, size, size)
		return offset, length, nil
	case to < from-1:
		return 0, 0, badRequest("read length must be non-negative: range ends before it begins: %s", printable(header))
	}
	// A last byte beyond 2^63-1 stands for that; +1 must not overflow.
	offset, length = api.Clip(from, min(to-from, size)+1, size)
	return offset, length, nil
}

// parseNumber reads a decimal number with the liberties of the reference: blanks around it, a
// leading "+", and single "_" between digits.
func parseNumber(text string) (int64, error) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "+")
	if strings.HasPrefix(text, "_") || strings.HasSuffix(text, "_") || strings.Contains(text, "__") {
		return 0, api.ErrNumber
	}
	return api.ParseOffset(strings.ReplaceAll(text, "_", ""))
}
