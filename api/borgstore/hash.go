package borgstore

import (
	"encoding/hex"
	"net/http"
	"strings"

	"packhouse/api"
	"packhouse/repo/digest"
)

// hash answers ?cmd=hash, from the bytes on disk.
func (q *request) hash() error {
	q.t.Log.Reads = true
	if q.raw == "" {
		return badRequest("Missing name for hash")
	}
	key, err := q.openObject("Missing name for hash")
	if err != nil {
		return err
	}
	if err := q.access.May(key, "r"); err != nil {
		return err
	}
	algorithm, err := q.algorithm("sha256")
	if err != nil {
		return err
	}
	sum, err := q.access.Hash(q.Context(), key, algorithm)
	if err != nil {
		return notBelow(q.raw, err)
	}
	return q.text(hex.EncodeToString(sum))
}

// algorithm finds the hash that a request names.
func (q *request) algorithm(otherwise string) (digest.Algorithm, error) {
	name := q.query["algorithm"]
	if name == "" {
		name = otherwise
	}
	if name == "blake2b-256" {
		// V'Ger's; hashlib has no such name.
		return digest.Algorithm{}, badRequest("Unsupported hash algorithm: %s", name)
	}
	if strings.HasPrefix(name, "shake") {
		return digest.Algorithm{}, badRequest("Unsupported hash algorithm: %s (its digest has no fixed length)", printable(name))
	}
	algorithm, err := digest.Lookup(name)
	if err != nil {
		return digest.Algorithm{}, &namedError{"Unsupported hash algorithm: " + printable(name), err}
	}
	return algorithm, nil
}

func (q *request) text(text string) error {
	api.WriteBytes(q.w, q.Request, http.StatusOK, "text/plain", []byte(text))
	return nil
}
