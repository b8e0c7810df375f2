package borgstore

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
)

// gather answers ?cmd=gather (borgstore 0.7): ranges of objects, one after the other, in one response.
// All are checked against the index before the first is read.
func (q *request) gather() error {
	q.t.Log.Reads = true
	if err := q.open(); err != nil {
		return err
	}
	sources, err := readSources(q.Body, q.t.Limits.PlanBytes)
	if err != nil {
		return err
	}
	for _, source := range sources {
		if err := q.access.May(source.Key, "r"); err != nil {
			return err
		}
	}
	g := &gathering{ctx: q.Context(), access: q.access, ranges: sources}
	defer g.close()
	size, err := g.survey()
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "application/octet-stream")
	return api.SendReader(q.w, q.Request, http.StatusOK, g, size)
}

// gathering reads ranges one after the other. It has at most one object open.
type gathering struct {
	ctx    context.Context // of the request: the gathering ends with it
	access *repo.Access
	ranges []compact.Range
	refs   map[string]string // key -> the blob that was there when the ranges were checked

	object  *repo.Object // nil: none
	section io.Reader    // what is left of the present range; nil: none
}

// survey checks all ranges and returns the bytes they have together. Negative offsets become those from
// the start.
func (g *gathering) survey() (total int64, err error) {
	items := make(map[string]index.Item)
	g.refs = make(map[string]string)
	for i := range g.ranges {
		r := &g.ranges[i]
		item, ok := items[r.Key]
		if !ok {
			entry, err := g.access.Row(g.ctx, r.Key)
			if err != nil {
				return 0, notBelow(r.Key, err)
			}
			if entry.Dir {
				return 0, about(r.Key, repo.ErrIsDir)
			}
			if err := g.access.Readable(entry.Item); err != nil {
				return 0, notBelow(r.Key, err)
			}
			item = entry.Item
			items[r.Key], g.refs[r.Key] = item, item.Ref
		}
		if r.Offset < 0 {
			r.Offset += item.Size
		}
		if r.Length > 0 && (r.Offset < 0 || r.Offset > item.Size || r.Length > item.Size-r.Offset) {
			return 0, &namedError{rangeText(r.Key, r.Length, r.Offset, max(item.Size-max(r.Offset, 0), 0)), repo.ErrRange}
		}
		if r.Length > math.MaxInt64-total {
			return 0, about(r.Key, repo.ErrTooLarge)
		}
		total += r.Length
	}
	return total, nil
}

var errReplaced = errors.New("object was replaced while it was sent")

// Read fills p from as many ranges as fit: what it returns is sent immediately, and ranges may be small.
func (g *gathering) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if g.section == nil {
			if err := g.next(); err != nil {
				return n, err
			}
		}
		m, err := g.section.Read(p[n:])
		n += m
		if err == io.EOF {
			g.section = nil
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

// next begins the next range that has bytes; io.EOF when there is none.
func (g *gathering) next() error {
	for len(g.ranges) > 0 {
		next := g.ranges[0]
		g.ranges = g.ranges[1:]
		if next.Length == 0 {
			continue
		}
		if err := g.open(next.Key); err != nil {
			return err
		}
		g.section = io.NewSectionReader(g.object, next.Offset, next.Length)
		return nil
	}
	return io.EOF
}

// open changes to the object of key, which must be the one that was checked.
func (g *gathering) open(key string) error {
	if g.object != nil && g.object.Key == key {
		return nil
	}
	g.close()
	object, err := g.access.Open(g.ctx, key)
	if err != nil {
		return err
	}
	g.object = object
	if object.Item.Ref != g.refs[key] {
		return errReplaced
	}
	return nil
}

func (g *gathering) close() {
	if g.object != nil {
		_ = g.object.Close() // it was only read
		g.object = nil
	}
}
