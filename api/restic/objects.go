package restic

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// octets is the type of all objects; it must not be changed.
var octets = []string{"application/octet-stream"}

// stat answers HEAD of an object: its size.
func (q *request) stat() error {
	a, err := q.access()
	if err != nil {
		return err
	}
	entry, err := a.Stat(q.Context(), q.key)
	switch {
	case err != nil:
		return err
	case entry.Dir:
		return repo.ErrNotFound
	}
	q.w.Header()["Content-Type"] = nil
	return api.SendReader(q.w, q.Request, http.StatusOK, nil, entry.Item.Size)
}

// load answers GET of an object.
func (q *request) load() error {
	a, err := q.access()
	if err != nil {
		return err
	}
	var span *window
	if header := q.Header.Get("Range"); header != "" && q.shape == object {
		if span, err = parseRange(header); err != nil {
			return err
		}
	}
	open := a.Open
	if span.bounded() {
		open = a.OpenRange
	}
	o, err := open(q.Context(), q.key)
	if err != nil {
		return err
	}
	defer o.Close()
	offset, length, status := int64(0), o.Size(), http.StatusOK
	header := q.w.Header()
	if span != nil && o.Size() > 0 {
		if offset, length, err = span.within(o.Size()); err != nil {
			header.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size()))
			return err
		}
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, o.Size()))
		status = http.StatusPartialContent
	}
	header["Content-Type"], header["Accept-Ranges"] = octets, []string{"bytes"}
	if err = api.SendObject(q.w, q.Request, status, o, offset, length); err != nil {
		header.Del("Content-Range")
		header.Del("Accept-Ranges")
		return err
	}
	q.d.o.Metrics.count(loaded, &q.t, q.resource, length)
	return nil
}

// store answers POST of an object, which must have the SHA-256 that is its name, or of config.
func (q *request) store() error {
	if api.LengthMissing(q.Request) {
		return &statusError{http.StatusLengthRequired, "an upload by HTTP/1.0 must have a Content-Length"}
	}
	a, err := q.access()
	if err != nil {
		return err
	}
	put := repo.PutRequest{
		Key: q.key, Body: q.Body, Size: q.ContentLength, MaxSize: q.d.o.Object, Immutable: true, Backup: a.Repository().IsSnapshot(q.key),
	}
	if q.shape == object {
		sum, err := hex.DecodeString(q.key[len(q.kind())+1:])
		if err != nil {
			return errPath
		}
		sha256, err := digest.Lookup(digest.SHA256)
		if err != nil {
			return err
		}
		put.Expect = []repo.Expectation{{Algorithm: sha256, Sum: sum}}
	}
	result, err := a.Put(q.Context(), put)
	if denied := (*repo.DeniedError)(nil); errors.As(err, &denied) && denied.Exists {
		return repo.ErrExists // it would not be replaced for anyone: no permission is missing
	}
	if err != nil {
		return err
	}
	if q.shape == config {
		q.d.beginnings.end(q.t.Name)
	}
	if result.Created {
		q.d.o.Metrics.count(stored, &q.t, q.resource, result.Item.Size)
	}
	return q.done(nil)
}

// remove answers DELETE of an object. One that is not there has been deleted: the first answer may have been lost.
func (q *request) remove() error {
	a, err := q.access()
	if err != nil {
		return err
	}
	if q.shape == config {
		if err := q.underLock(a); err != nil {
			return err
		}
	}
	var size int64
	if q.d.o.Metrics != nil {
		if entry, err := a.Repository().Entry(q.key); err == nil {
			size = entry.Item.Size
		}
	}
	switch err := a.Delete(q.Context(), q.key); {
	case errors.Is(err, repo.ErrNotFound):
	case err != nil:
		return err
	default:
		q.d.o.Metrics.count(removed, &q.t, q.resource, size)
	}
	return q.done(nil)
}

// underLock wants the sender to have a lock, if there is a config: who deletes it to store another holds one, and who could not store its own has none,
// as it has no repository yet. See initialize.go.
func (q *request) underLock(a *repo.Access) error {
	if _, err := a.Repository().Entry(q.key); errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err := a.May(q.key, "D"); err != nil {
		return err
	}
	locked := false
	err := a.Each(q.Context(), index.ListOptions{Dir: "locks"}, func(entry index.Entry) error {
		locked = locked || entry.Item.Writer == q.t.Principal.Name
		return nil
	})
	if err == nil && locked || err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	return errConfig
}
