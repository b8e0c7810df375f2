package borgstore

import (
	"net/http"
)

// move answers ?cmd=move.
func (q *request) move() error {
	current, target := q.query["current"], q.query["new"]
	if current == "" || target == "" {
		return badRequest("Missing current or new name for move")
	}
	if err := q.open(); err != nil {
		return err
	}
	from, err := cleanName(current)
	if err != nil {
		return err
	}
	to, err := cleanName(target)
	if err != nil {
		return err
	}
	q.t.Log.Key = from + " -> " + to
	if from == "" || to == "" {
		return badRequest("Missing current or new name for move")
	}
	if err := q.access.Move(q.Context(), from, to); err != nil {
		return q.aboutMove(from, current, target, err)
	}
	return q.done()
}

// aboutMove finds which of the two names an error is about.
func (q *request) aboutMove(from, current, target string, err error) error {
	switch status, _ := errorTable.Find(err); status {
	case http.StatusNotFound:
		return about(current, err)
	case http.StatusBadRequest:
		if entry, statErr := q.access.Repository().Entry(from); statErr == nil && entry.Dir {
			return &namedError{"directories cannot be moved: " + printable(current), err}
		}
	}
	return about(target, err)
}
