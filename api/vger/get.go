package vger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"packhouse/api"
	"packhouse/repo"
)

// get answers GET of an object.
func (x *request) get() error {
	x.log("load")
	if !x.key.listable() {
		return errPath
	}
	var window *byteRange
	if header := x.r.Header.Get("Range"); header != "" {
		parsed, err := parseRange(header)
		if err != nil {
			return err
		}
		window = &parsed
	}
	a, err := x.object()
	if err != nil {
		return err
	}
	var begun time.Time
	leads := a.LeadsToIndex(x.key.text)
	if leads {
		begun = a.ReadTime()
	}
	open := a.Open
	if window != nil {
		open = a.OpenRange
	}
	o, err := x.open(a, open)
	if err != nil {
		return err
	}
	defer o.Close()
	offset, length, code := int64(0), o.Size(), http.StatusOK
	h := x.w.Header()
	if window != nil {
		if offset, length, err = window.within(o.Size()); err != nil {
			return err
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, o.Size()))
		code = http.StatusPartialContent
	}
	section, err := o.Section(offset, length)
	if err == nil {
		h["Content-Type"] = nil // objects have none, and none is to be guessed
		err = api.SendReader(x.w, x.r, code, section, length)
	}
	if err != nil {
		h.Del("Content-Range")
		return err
	}
	if leads && length == o.Size() {
		a.IndexRead(x.key.text, begun)
	}
	return nil
}

// source is what an answer to GET is read from.
type source interface {
	Size() int64
	Section(offset, length int64) (io.Reader, error)
	Close() error
}

// open finds the object, or the lock document that stands for a TTL lock.
func (x *request) open(a *repo.Access, open func(context.Context, string) (*repo.Object, error)) (source, error) {
	o, err := open(x.r.Context(), x.key.text)
	if errors.Is(err, repo.ErrNotFound) {
		if shadow, ok, lockErr := x.shadow(a); lockErr != nil {
			return nil, lockErr
		} else if ok {
			return shadow.document(a.Repository().Now()), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// object opens the repository for a look at the key; what cannot be there is not found.
func (x *request) object() (*repo.Access, error) {
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) || err == nil && !x.key.item() {
		return nil, repo.ErrNotFound
	}
	return a, err
}

// head answers HEAD of an object: its size. It must carry a length, or clients fail for good.
func (x *request) head() error {
	x.log("stat")
	if !x.key.listable() {
		return errPath
	}
	a, err := x.object()
	if err != nil {
		return err
	}
	var size int64
	entry, err := a.Lookup(x.r.Context(), x.key.text)
	switch {
	case err == nil && entry.Dir:
		return repo.ErrNotFound
	case err == nil:
		size = entry.Item.Size
	case errors.Is(err, repo.ErrNotFound):
		shadow, ok, lockErr := x.shadow(a)
		if lockErr != nil {
			return lockErr
		}
		if !ok {
			return err
		}
		size = shadow.document(a.Repository().Now()).Size()
	default:
		return err
	}
	x.w.Header()["Content-Type"] = nil
	return api.SendReader(x.w, x.r, http.StatusOK, nil, size)
}
