package borgstore

import (
	"errors"
	"net/http"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/repo"
)

// gather answers ?cmd=gather (borgstore 0.7): ranges of objects, one after the other, in one response.
func (q *request) gather() error {
	q.t.Log.Reads = true
	if err := q.open(); err != nil {
		return err
	}
	sources, err := readSources(q.Body, q.t.Limits.PlanBytes)
	if err != nil {
		return err
	}
	g, err := compact.Gather(q.Context(), q.access, sources)
	if err != nil {
		return aboutSource(err)
	}
	defer g.Close()
	q.w.Header().Set("Content-Type", "application/octet-stream")
	return api.SendReader(q.w, q.Request, http.StatusOK, g, g.Size())
}

// aboutSource gives the error of a range the text that the protocol defines.
func aboutSource(err error) error {
	source, ok := errors.AsType[*compact.PlanError](err)
	switch {
	case !ok:
		return err
	case errors.Is(source.Err, repo.ErrRange):
		return &namedError{rangeText(source.Key, source.Want, source.Offset, source.Got), repo.ErrRange}
	}
	return notBelow(source.Key, source.Err)
}
