package borgstore

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"packhouse/api"
	"packhouse/repo"
)

// directorySize is the size that directories have in listings: the protocol wants one.
const directorySize = 4096

// appendSeconds writes a time, in Unix ms, as the protocol does: seconds since 1970, always with a decimal point.
func appendSeconds(b []byte, ms int64) []byte {
	if ms < 1000 {
		return fmt.Appendf(b, "0.%03d", ms)
	}
	b = strconv.AppendInt(b, ms, 10)
	b = append(b, b[len(b)-1])
	end := len(b) - 4
	b[end+2], b[end+1], b[end] = b[end+1], b[end], '.'
	return b
}

// entryTime is what an entry has as atime and mtime: the time when it was made, in Unix ms. It is never zero.
func (q *request) entryTime(made int64) int64 {
	if made <= 0 {
		return q.access.Repository().Created().UnixMilli()
	}
	return made
}

// info answers HEAD.
func (q *request) info() error {
	key, err := q.openAt()
	if err != nil {
		return err
	}
	entry, err := q.access.Stat(q.Context(), key)
	if err != nil {
		return notBelow(q.raw, err)
	}
	size, made := entry.Item.Size, entry.Item.Modified
	if entry.Dir {
		size, made = directorySize, entry.Item.Created
	}
	api.Finish(q.w, q.Request)
	header := q.w.Header()
	// Some clients compare these names byte for byte: they bypass the canonical spelling.
	header["X-BorgStore-Is-Directory"] = []string{strconv.FormatBool(entry.Dir)}
	header["X-BorgStore-Atime"] = []string{string(appendSeconds(nil, q.entryTime(made.UnixMilli())))}
	header["X-BorgStore-Mtime"] = header["X-BorgStore-Atime"]
	header["Content-Type"] = nil
	header.Set("Content-Length", strconv.FormatInt(size, 10))
	q.w.WriteHeader(http.StatusOK)
	return nil
}

// load answers GET of an object.
func (q *request) load() error {
	key, err := q.openObject("Bad Request")
	if err != nil {
		return err
	}
	var ranges []string
	if r := q.Header["Range"]; len(r) > 0 && r[0] != "" {
		ranges = r[:1]
	}
	open := q.access.Open
	if ranges != nil {
		open = q.access.OpenRange
	}
	object, err := open(q.Context(), key)
	if err != nil {
		return notBelow(q.raw, damagedRange(ranges != nil, err))
	}
	defer object.Close()
	status, offset, length := http.StatusOK, int64(0), object.Item.Size
	if ranges != nil {
		status = http.StatusPartialContent
		if offset, length, err = parseRange(ranges[0], object.Item.Size); err != nil {
			return err
		}
	}
	q.w.Header()["Content-Type"] = octets
	return damagedRange(ranges != nil, api.SendObject(q.w, q.Request, status, object, offset, length))
}

// damagedRange is what a range with wrong bytes is for borg: missing, so that it goes on with the ranges that are sound.
func damagedRange(isRange bool, err error) error {
	if isRange && errors.Is(err, repo.ErrDamaged) {
		return &statusError{http.StatusNotFound, api.DamagedText}
	}
	return err
}

// remove answers DELETE of an object.
func (q *request) remove() error {
	key, err := q.openObject("Bad Request")
	if err != nil {
		return err
	}
	if err := q.access.Delete(q.Context(), key); err != nil {
		return notBelow(q.raw, err)
	}
	return q.done()
}
