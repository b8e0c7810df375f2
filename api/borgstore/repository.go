package borgstore

import (
	"errors"
	"fmt"
	"net/http"

	"packhouse/api"
	"packhouse/repo"
)

// create answers ?cmd=create: it may be repeated while the repository is empty. With more than a name in the path it is refused: what is stored
// below would be items of another repository, of which nothing knows whether they are locks or archives.
func (q *request) create() error {
	if q.raw != "" && q.t.Name != "" { // a server of one repository ignores the path
		return api.Nested(q.Request, q.t.Name+"/"+q.raw)
	}
	_, err := api.CreateRepository(q.Context(), q.t, Name, "")
	switch {
	case errors.Is(err, repo.ErrDenied):
	case q.t.Name == "" && !q.t.Set.Single():
		err = api.Nameless(q.Request)
	case errors.Is(err, repo.ErrExists):
		err = q.createAgain()
	}
	if err != nil {
		return err
	}
	return q.done()
}

// createAgain is create of a repository that exists: ErrExists unless it is ours and empty.
func (q *request) createAgain() error {
	r, err := api.OpenRepository(q.Context(), q.t, Name)
	if errors.Is(err, repo.ErrDialect) {
		return &statusError{http.StatusConflict, "repository exists: " + err.Error()}
	}
	if err != nil {
		return err
	}
	empty, err := r.Empty(q.Context())
	if err == nil && !empty {
		err = repo.ErrExists
	}
	return err
}

// destroy answers ?cmd=destroy.
func (q *request) destroy() error {
	if err := q.t.Principal.May("", "D"); err != nil { // before it is looked for
		return err
	}
	if err := q.open(); err != nil {
		return err
	}
	if err := q.access.MayDestroy(q.Context()); err != nil {
		return err
	}
	if err := q.t.Set.Destroy(q.Context(), q.t.Name); err != nil {
		return err
	}
	return q.done()
}

// quota answers ?cmd=quota, which needs no permission.
func (q *request) quota() error {
	q.t.Log.Reads = true
	if err := q.open(); err != nil {
		return err
	}
	usage := q.access.Usage()
	limit, used := int64(-1), int64(-1)
	if usage.Limit >= 0 {
		limit, used = usage.Limit, usage.Used
	}
	text := fmt.Sprintf(`{"limit": %d, "usage": %d}`, limit, used)
	api.WriteBytes(q.w, q.Request, http.StatusOK, "application/json", []byte(text))
	return nil
}

// makeDir answers ?cmd=mkdir.
func (q *request) makeDir() error {
	key, err := q.openAt()
	if err != nil {
		return err
	}
	err = q.access.MakeDir(q.Context(), key)
	if errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrNotDir) {
		return &namedError{"an object stands where a directory is needed: " + printable(q.raw), repo.ErrNotDir}
	}
	if err != nil {
		return about(q.raw, err)
	}
	return q.done()
}

// removeDir answers ?cmd=rmdir.
func (q *request) removeDir() error {
	key, err := q.openAt()
	if err != nil {
		return err
	}
	if err := q.access.RemoveDir(q.Context(), key); err != nil {
		return about(q.raw, err)
	}
	return q.done()
}
