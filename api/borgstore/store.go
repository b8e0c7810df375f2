package borgstore

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// store answers POST of an object.
func (q *request) store() error {
	expect, mustFail, err := expectation(q.Header["X-Content-Hash-Sha256"])
	if err != nil {
		return err
	}
	if q.raw == "" {
		return badRequest("Bad Request")
	}
	if api.LengthMissing(q.Request) {
		return &statusError{http.StatusLengthRequired, "a store by HTTP/1.0 must have a Content-Length"}
	}
	if mustFail {
		return repo.ErrDigest
	}
	key, err := q.openObject("Bad Request")
	if err != nil {
		return q.afterHash(expect, err)
	}
	result, err := q.access.Put(q.Context(), repo.PutRequest{
		Key: key, Body: q.Body, Size: q.ContentLength, MaxSize: q.t.Limits.ItemBytes, Expect: expect,
		Backup: q.access.Repository().IsSnapshot(key), // borg stores an archive last of a backup
	})
	if err != nil {
		return about(q.raw, err)
	}
	q.t.Log.Replaced = result.Replaced()
	return q.done()
}

// expectation reads the header with the body's hash. It is compared exactly: what is not 64 lowercase
// digits can match nothing.
func expectation(header []string) (expect []repo.Expectation, mustFail bool, err error) {
	if len(header) == 0 || header[0] == "" {
		return nil, false, nil
	}
	sum, err := hex.DecodeString(header[0])
	if err != nil || len(sum) != sha256.Size || header[0] != hex.EncodeToString(sum) {
		return nil, true, nil
	}
	algorithm, err := digest.Lookup("sha256")
	if err != nil {
		return nil, false, err
	}
	return []repo.Expectation{{Algorithm: algorithm, Sum: sum}}, false, nil
}

// afterHash is the error of a store that was refused for its name: a body that differs from its hash is
// the greater fault, and was damaged on its way.
func (q *request) afterHash(expect []repo.Expectation, refused error) error {
	if _, isName := refused.(*statusError); !isName || len(expect) == 0 {
		return refused
	}
	h := expect[0].Algorithm.New()
	n, err := io.Copy(h, io.LimitReader(q.Body, q.t.Limits.DrainBytes))
	if err == nil && n < q.t.Limits.DrainBytes && string(h.Sum(nil)) != string(expect[0].Sum) {
		return repo.ErrDigest
	}
	return refused
}
