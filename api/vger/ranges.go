package vger

import (
	"net/http"
	"strconv"

	"packhouse/api"
)

// byteRange is a window of an item, in bytes; both ends are part of it.
type byteRange struct{ start, end uint64 }

// parseRange reads the one form clients send, "bytes={start}-{end}". Everything
// else is refused, with the reference's words (contract, 2.3).
func parseRange(header string) (byteRange, error) {
	first, last, ok := api.SplitRange(header)
	if !ok {
		return byteRange{}, badRequest("invalid Range header")
	}
	var r byteRange
	if r.start, ok = decimal(first); !ok {
		return byteRange{}, badRequest("invalid range start")
	}
	if r.end, ok = decimal(last); !ok {
		return byteRange{}, badRequest("invalid range end")
	}
	if r.end < r.start {
		return byteRange{}, badRequest("invalid Range header: end before start")
	}
	return r, nil
}

func decimal(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// within cuts the range at the end of an item of size bytes.
func (r byteRange) within(size int64) (offset, length int64, err error) {
	if r.start >= uint64(size) {
		return 0, 0, status(http.StatusRequestedRangeNotSatisfiable, "range start %d beyond file size %d", r.start, size)
	}
	end := min(r.end, uint64(size)-1)
	return int64(r.start), int64(end - r.start + 1), nil
}
