package vger

import (
	"errors"
	"net/http"

	"packhouse/repo"
)

// put answers PUT of an object.
func (x *request) put() error {
	x.log("store")
	// Uploads in parts (0.23) have an unknown form: storing a part as a whole object would be the worst answer.
	if x.t.Query != "" || x.r.URL.ForceQuery || x.r.Header.Get("Content-Range") != "" {
		return badRequest("PUT with a query string or Content-Range is not supported; nothing was stored")
	}
	if !x.key.item() {
		return errPath
	}
	hash, expect, err := x.expectations()
	if err != nil {
		return err
	}
	a, err := x.accessOrCreate(x.key.text)
	if err != nil {
		return err
	}
	final, err := x.heldAgainstFormat(a, hash)
	if err != nil {
		return err
	}
	backup, err := x.completesBackup(a)
	if err != nil {
		return err
	}
	limit := x.d.o.Limits.Object
	if x.key.shape == pack {
		limit = x.d.o.Limits.Pack
	}
	result, err := a.Put(x.r.Context(), repo.PutRequest{
		Key: x.key.text, Body: x.body, Size: x.r.ContentLength, MaxSize: limit, Expect: expect, Backup: backup, Final: final,
	})
	if err != nil {
		return x.putError(err)
	}
	x.t.Log.Replaced = result.Replaced()
	if result.Created || result.PreviousSize == 0 {
		x.empty(http.StatusCreated)
	} else {
		x.empty(http.StatusNoContent)
	}
	return nil
}

// heldAgainstFormat holds the object against the repository's format, which is fixed for life: it names packs by one hash,
// and only clients of format 1 store a manifest more than once, if at all (final).
func (x *request) heldAgainstFormat(a *repo.Access, hash hashName) (final bool, err error) {
	if x.key.shape != pack && x.key.text != "manifest" {
		return false, nil
	}
	config, err := x.d.configs.of(x.r.Context(), a.Repository())
	if err != nil {
		return false, err
	}
	if x.key.text == "manifest" {
		return config.format != 1, nil
	}
	if want := config.hash(); want != "" && want != hash.name {
		return false, status(http.StatusConflict, "packs of this repository (format %d) are named by %s, not %s", config.format, want, hash.name)
	}
	return false, nil
}

// completesBackup tells whether storing the object finishes a backup: a snapshot that is new (or was empty), or in format 1, whose clients see the snapshots
// that the manifest lists, a manifest after one. The reference counts any manifest (contract, 7.2), also that of init, prune and compact.
func (x *request) completesBackup(a *repo.Access) (bool, error) {
	if x.key.text == "manifest" {
		return a.NewSnapshot(x.r.Context())
	}
	if !a.Repository().IsSnapshot(x.key.text) {
		return false, nil
	}
	if config, err := x.d.configs.of(x.r.Context(), a.Repository()); err != nil || config.format == 1 {
		return false, err
	}
	entry, err := a.Repository().Entry(x.key.text)
	if errors.Is(err, repo.ErrNotFound) {
		return true, nil
	}
	return err == nil && entry.Item.Size == 0, err
}

// putError gives errors of a body their text.
func (x *request) putError(err error) error {
	var mismatch *repo.DigestError
	switch {
	case errors.As(err, &mismatch):
		if x.key.shape == pack && x.r.Header.Get(hashNames[0].header) == "" && x.r.Header.Get(hashNames[1].header) == "" {
			return badRequest("X-Content-BLAKE2b or X-Content-BLAKE3 header required for pack uploads: without one the name must be the BLAKE2b, which is %x", mismatch.Got)
		}
		return status(http.StatusConflict, "%s checksum mismatch: expected %x, got %x", digestText(mismatch.Algorithm), mismatch.Want, mismatch.Got)
	case errors.Is(err, repo.ErrIncomplete) && x.r.ContentLength >= 0:
		return badRequest("upload size mismatch: Content-Length %d, received %d", x.r.ContentLength, x.body.n)
	}
	return err
}
