package borgstore

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"packhouse/api"
	"packhouse/index"
)

// list answers GET of a directory: one level, as one JSON array. Up to bufferMemory it is sent with its
// length. What is longer goes out as it is read from the index, in chunks; only on stdio, whose clients
// know no chunks, it is written to a temporary file first, so that its length can be told.
func (q *request) list() error {
	key, err := q.openAt()
	if err != nil {
		return err
	}
	l := &listing{q: q, buffer: newResponseBuffer(q.d.o.TempDir), separator: "["}
	defer l.buffer.close()
	err = api.List(q.Context(), q.access, index.ListOptions{Dir: key}, l.add)
	if err == nil {
		end := "]"
		if l.separator == "[" {
			end = "[]"
		}
		err = l.write([]byte(end))
	}
	if err != nil {
		err = about(q.raw, err)
	}
	return l.end(err)
}

// listing is an answer that is sent with its length while it is short, and streamed when it is not.
type listing struct {
	q         *request
	buffer    *responseBuffer
	separator string // before the next entry
	line      []byte // reused
	started   bool   // the header is out: chunks follow
}

// add writes one entry. It returns api.ErrStream, once, when the listing begins to be streamed.
func (l *listing) add(e index.Entry) error {
	name := e.Key[strings.LastIndexByte(e.Key, '/')+1:]
	if checkName(name) != nil {
		return nil // hidden, as in the reference: a directory such as "x.tmp"
	}
	size := e.Item.Size
	if e.Dir {
		size = directorySize
	}
	l.line = append(l.line[:0], l.separator...)
	l.line = appendEntry(l.line, name, size, e.Dir, l.q.entryTime(e))
	l.separator = ",\n"
	if !l.started && l.buffer.size+int64(len(l.line)) > bufferMemory && !api.IsTrusted(l.q.Context()) && l.q.ProtoAtLeast(1, 1) {
		l.started = true
		l.buffer.memory.Write(l.line)
		return api.ErrStream
	}
	return l.write(l.line)
}

func (l *listing) write(p []byte) error {
	if !l.started {
		return l.buffer.write(p)
	}
	if l.buffer.memory.Len()+len(p) > streamBuffer {
		if err := l.flush(); err != nil {
			return err
		}
	}
	l.buffer.memory.Write(p)
	return nil
}

// flush sends what is in memory as a chunk.
func (l *listing) flush() error {
	l.q.w.Header().Set("Content-Type", "application/json")
	_, err := l.buffer.memory.WriteTo(l.q.w)
	return err
}

// streamBuffer is how many bytes of a streamed listing are sent at once.
const streamBuffer = 64 << 10

// end sends what is left. An error after the first byte can only cut the connection: the client must not
// take what it has for the whole.
func (l *listing) end(err error) error {
	if !l.started {
		if err != nil {
			return err
		}
		l.q.w.Header().Set("Content-Type", "application/json")
		return l.q.send(http.StatusOK, l.buffer)
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		api.Cut(l.q.Request, err)
	}
	return nil
}

// appendEntry writes one entry. Clients need the keys, not the reference's white space.
func appendEntry(b []byte, name string, size int64, dir bool, at time.Time) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, name)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, size, 10)
	b = append(b, `,"directory":`...)
	b = strconv.AppendBool(b, dir)
	b = append(b, `,"atime":`...)
	b = appendSeconds(b, at)
	b = append(b, `,"mtime":`...)
	b = appendSeconds(b, at)
	return append(b, '}')
}

// appendString writes a name as a JSON string. Names are printable ASCII without backslashes: only the quotation
// mark needs an escape.
func appendString(b []byte, name string) []byte {
	b = append(b, '"')
	for i := 0; i < len(name); i++ {
		if name[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, name[i])
	}
	return append(b, '"')
}

// send answers with what a buffer holds. From its first byte on an error can only cut the connection.
func (q *request) send(status int, s *responseBuffer) error {
	body, err := s.reader()
	if err != nil {
		return err
	}
	return api.SendReader(q.w, q.Request, status, body, s.size)
}
