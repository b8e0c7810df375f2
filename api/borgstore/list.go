package borgstore

import (
	"bytes"
	"net/http"
	"strconv"

	"packhouse/api"
	"packhouse/index"
)

// list answers GET of a directory: one level, as one JSON array. Up to bufferMemory it is sent with its length: to fill that
// takes some ms, and costs less than to wake the client for each part. What is longer goes out as it is read from the index, in
// chunks; only on stdio, whose clients know no chunks, it is written to a temporary file first, so that its length can be told.
func (q *request) list() error {
	key, err := q.openAt()
	if err != nil {
		return err
	}
	l := &listing{q: q, chunked: !api.IsTrusted(q.Context()) && q.ProtoAtLeast(1, 1)}
	return api.Listing{First: bufferMemory, Append: l.append, Send: l.send}.Run(q.Context(), q.access, index.ListOptions{Dir: key}, l.end)
}

// listing is an answer that is sent with its length while it is short, and in chunks when it is not.
type listing struct {
	q       *request
	chunked bool            // the client knows chunks
	some    bool            // there is an entry already
	started bool            // the header is out: chunks follow
	buffer  *responseBuffer // of a long listing for a client that knows none; else nil
}

// append appends a row as one entry.
func (l *listing) append(page []byte, row *index.Row) []byte {
	name := row.Name()
	if !plain(name) && checkName(string(name)) != nil {
		return page // hidden, as in the reference: a directory such as "x.tmp"
	}
	if l.some {
		page = append(page, ",\n"...)
	} else {
		page = append(page, '[')
		l.some = true
	}
	if row.Dir {
		return appendEntry(page, name, directorySize, true, l.q.entryTime(row.Created))
	}
	return appendEntry(page, name, row.Size, false, l.q.entryTime(row.Modified))
}

// send sends a page, or writes it to the file.
func (l *listing) send(page []byte) error {
	if !l.chunked {
		if l.buffer == nil {
			l.buffer = newResponseBuffer(l.q.d.o.TempDir)
		}
		return l.buffer.write(page)
	}
	if !l.started {
		l.started = true
		l.q.w.Header().Set("Content-Type", "application/json")
	}
	_, err := l.q.w.Write(page)
	return err
}

// end closes the array and sends what is left. An error after the first byte can only cut the connection: the client must not
// take what it has for the whole.
func (l *listing) end(page []byte, err error) error {
	if l.buffer != nil {
		defer l.buffer.close()
	}
	if !l.some {
		page = append(page, '[')
	}
	page = append(page, ']')
	switch {
	case l.started:
		if err == nil {
			err = l.send(page)
		}
		if err != nil {
			api.Cut(l.q.Request, about(l.q.raw, err))
		}
		return nil
	case err != nil:
		return about(l.q.raw, err)
	}
	l.q.w.Header().Set("Content-Type", "application/json")
	if l.buffer == nil {
		return api.SendReader(l.q.w, l.q.Request, http.StatusOK, bytes.NewReader(page), int64(len(page)))
	}
	if err := l.buffer.write(page); err != nil {
		return err
	}
	return l.q.send(http.StatusOK, l.buffer)
}

// appendEntry writes one entry. Clients need the keys, not the reference's white space.
func appendEntry(b, name []byte, size int64, dir bool, at int64) []byte {
	b = append(b, `{"name":`...)
	b = api.AppendString(b, name)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, size, 10)
	if dir {
		b = append(b, `,"directory":true,"atime":`...)
	} else {
		b = append(b, `,"directory":false,"atime":`...)
	}
	begin := len(b)
	b = appendSeconds(b, at)
	end := len(b)
	b = append(b, `,"mtime":`...)
	b = append(b, b[begin:end]...)
	return append(b, '}')
}

// send answers with what a buffer holds. From its first byte on an error can only cut the connection.
func (q *request) send(status int, s *responseBuffer) error {
	body, err := s.reader()
	if err != nil {
		return err
	}
	return api.SendReader(q.w, q.Request, status, body, s.size)
}
