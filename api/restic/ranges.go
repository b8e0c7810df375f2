package restic

import (
	"net/http"
	"strings"

	"packhouse/api"
)

// window is the range that a request asks for: the bytes from first to last, or with first < 0 so many at the end.
type window struct{ first, last int64 }

// toEnd stands for the last byte of a range that has no end.
const toEnd = 1<<63 - 1

var errRange = &statusError{http.StatusRequestedRangeNotSatisfiable, "invalid range"}

// parseRange reads a Range header. Several ranges are nil: all of the object is sent, as HTTP allows. Clients never send them.
// Source: restic-rest 2.3.
func parseRange(header string) (*window, error) {
	if strings.HasPrefix(header, "bytes=") && strings.Contains(header, ",") {
		return nil, nil
	}
	first, last, ok := api.SplitRange(header)
	if !ok {
		return nil, errRange
	}
	w := &window{-1, toEnd}
	var err error
	if first != "" {
		if w.first, err = api.ParseOffset(first); err == api.ErrNumber {
			return nil, errRange
		}
	}
	if last != "" {
		if w.last, err = api.ParseOffset(last); err == api.ErrNumber {
			return nil, errRange
		}
	}
	if w.last < w.first || w.first < 0 && w.last == 0 {
		return nil, errRange
	}
	return w, nil
}

// bounded tells whether the range is a part of an object, so far as that can be told without its size.
func (w *window) bounded() bool { return w != nil && (w.first != 0 || w.last != toEnd) }

// within cuts the range at the end of an object of size bytes, at least one.
func (w *window) within(size int64) (offset, length int64, err error) {
	switch {
	case w.first < 0:
		length = min(w.last, size)
		return size - length, length, nil
	case w.first >= size:
		return 0, 0, errRange
	}
	return w.first, min(w.last, size-1) - w.first + 1, nil
}
