package vger

import (
	"encoding/hex"
	"net/http"

	"packhouse/repo"
	"packhouse/repo/digest"
)

// hashName is an algorithm as this protocol calls it.
type hashName struct {
	name   string // in plans and in health
	header string // of a PUT
	text   string // in error texts
	digest string // in package digest
}

var hashNames = []hashName{
	{"blake2b", "X-Content-BLAKE2b", "BLAKE2b", "blake2b-256"},
	{"blake3", "X-Content-BLAKE3", "BLAKE3", "blake3"},
}

// hashNamed finds an algorithm by its name in plans.
func hashNamed(name string) (hashName, bool) {
	for _, h := range hashNames {
		if h.name == name {
			return h, true
		}
	}
	return hashName{}, false
}

// digestText is how error texts call an algorithm of package digest.
func digestText(name string) string {
	for _, h := range hashNames {
		if h.digest == name {
			return h.text
		}
	}
	return name
}

// algorithm looks the hash up. Both are always there.
func (h hashName) algorithm() (digest.Algorithm, error) { return digest.Lookup(h.digest) }

// announced reads the digest headers: which algorithm, if any, and which sum. A
// value that is not visible ASCII counts as absent (contract, 2.2).
func announced(header http.Header) (hash hashName, sum []byte, err error) {
	for _, h := range hashNames {
		values := header.Values(h.header)
		if len(values) == 0 || !visible(values[0]) {
			continue
		}
		decoded, err := hex.DecodeString(values[0])
		if err != nil || len(decoded) != 32 {
			return hashName{}, nil, badRequest("%s must be 64 hex characters", h.header)
		}
		if sum != nil {
			return hashName{}, nil, badRequest("X-Content-BLAKE2b and X-Content-BLAKE3 are mutually exclusive")
		}
		hash, sum = h, decoded
	}
	return hash, sum, nil
}

func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\t' && (s[i] < 0x20 || s[i] > 0x7e) {
			return false
		}
	}
	return true
}

// expectations are the digests the body of a PUT must have. A pack is named by its content: the header's
// sum, or without a header the BLAKE2b (G1 sends none), must be its name.
func (x *request) expectations() (hash hashName, expect []repo.Expectation, err error) {
	hash, sum, err := announced(x.r.Header)
	if err != nil {
		return hashName{}, nil, err
	}
	if x.key.shape == pack {
		if !x.key.sharded() {
			return hashName{}, nil, badRequest("a pack belongs in the shard its name begins with: packs/%s/", x.key.packName()[:2])
		}
		name, err := hex.DecodeString(x.key.packName())
		if err != nil {
			return hashName{}, nil, errPath
		}
		if sum == nil {
			hash, sum = hashNames[0], name
		}
		if string(sum) != string(name) {
			return hashName{}, nil, status(http.StatusConflict, "%s %x is not the pack's name", hash.header, sum)
		}
	}
	if sum == nil {
		return hashName{}, nil, nil
	}
	algorithm, err := hash.algorithm()
	if err != nil {
		return hashName{}, nil, err
	}
	return hash, []repo.Expectation{{Algorithm: algorithm, Sum: sum}}, nil
}
