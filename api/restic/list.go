package restic

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
)

// bufferMemory is up to which size a listing is sent with its length; a longer one goes out as it is read from the index, in chunks.
const bufferMemory = 64 << 10

// list answers GET of a type: the names of its objects, in version 2 with their sizes.
func (q *request) list() error {
	a, err := q.access()
	if err != nil {
		return err
	}
	l := &listing{q: q, media: mediaV1}
	if q.Header.Get("Accept") == mediaV2 {
		l.media = mediaV2
	}
	var rows api.Lister = a
	if q.kind() != "data" && q.kind() != "locks" {
		// Without the name of one that is lost, prune would call everything unused that it refers to.
		rows = withLost{a}
	}
	return api.Listing{First: bufferMemory, Append: l.append, Send: l.send}.Run(q.Context(), rows, index.ListOptions{Dir: q.key}, l.end)
}

// withLost lists also the items whose file is lost.
type withLost struct{ *repo.Access }

func (a withLost) Rows(ctx context.Context, o index.ListOptions, fn func(*index.Row) error) error {
	return a.AllRows(ctx, o, fn)
}

// listing is an answer to list.
type listing struct {
	q       *request
	media   string
	some    bool // there is an entry already
	started bool // the header is out: chunks follow
}

// append appends a row as one entry.
func (l *listing) append(page []byte, row *index.Row) []byte {
	if row.Dir {
		return page
	}
	open := byte(',')
	if !l.some {
		open, l.some = '[', true
	}
	page = append(page, open)
	if l.media == mediaV1 {
		return api.AppendString(page, row.Name())
	}
	page = append(page, `{"name":`...)
	page = api.AppendString(page, row.Name())
	page = append(page, `,"size":`...)
	return append(strconv.AppendInt(page, row.Size, 10), '}')
}

// send sends a page.
func (l *listing) send(page []byte) error {
	if !l.started {
		l.started = true
		l.q.w.Header()["Content-Type"] = []string{l.media}
	}
	_, err := l.q.w.Write(page)
	return err
}

// end closes the array and sends what is left. An error after the first byte can only cut the connection: the client must not take what it
// has for the whole. A type of which nothing was stored yet is empty.
func (l *listing) end(page []byte, err error) error {
	if errors.Is(err, repo.ErrNotFound) && !l.started {
		err = nil
	}
	if err == nil {
		if !l.some {
			page = append(page, '[')
		}
		page = append(page, ']')
	}
	switch {
	case l.started:
		if err == nil {
			err = l.send(page)
		}
		if err != nil {
			api.Cut(l.q.Request, err)
		}
		return nil
	case err != nil:
		return err
	}
	l.q.w.Header()["Content-Type"] = []string{l.media}
	return api.SendReader(l.q.w, l.q.Request, http.StatusOK, bytes.NewReader(page), int64(len(page)))
}
