package vger

import (
	"errors"
	"net/http"

	"packhouse/repo"
)

// remove answers DELETE of an object, or the release of a TTL lock. Whether the principal may is decided
// before the key's validity and existence (contract, 2.2).
func (x *request) remove() error {
	x.log("delete")
	if x.key.temporary {
		// Nothing unfinished is ever visible here, so there is nothing to delete or to refuse.
		return &statusError{code: http.StatusNotFound}
	}
	if err := x.t.Principal.May(x.key.text, "D"); err != nil {
		return err
	}
	if !x.key.listable() {
		return errPath
	}
	a, err := x.object()
	if err == nil {
		err = x.removeFrom(a)
	}
	if errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrIsDir) {
		x.t.Log.Reason = "not found"
		return x.nothingRemoved()
	}
	if err != nil {
		return err
	}
	x.empty(http.StatusNoContent)
	return nil
}

func (x *request) removeFrom(a *repo.Access) error {
	if released, err := x.release(a); released || err != nil {
		return err
	}
	return a.Delete(x.r.Context(), x.key.text)
}

// nothingRemoved is 404: with a text for TTL locks, bare for objects. Clients take both for success.
func (x *request) nothingRemoved() error {
	if id, ok := x.ttlLock(); ok {
		return status(http.StatusNotFound, "lock '%s' not found", id)
	}
	return &statusError{code: http.StatusNotFound}
}

// mkdir answers POST ?mkdir. Directories are no entries of their own here: the request only makes sure that
// there is a repository, so that a directory can never stand in an object's way.
func (x *request) mkdir() error {
	x.log("mkdir")
	if !x.key.listable() {
		return errPath
	}
	a, err := x.accessOrCreate(x.key.text)
	if err != nil {
		return err
	}
	if err := a.May(x.key.text, "wW"); err != nil {
		return err
	}
	x.empty(http.StatusCreated)
	return nil
}
