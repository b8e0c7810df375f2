package vger

import (
	"errors"
	"math"
	"net/http"
	"strings"

	"packhouse/internal/jsonstream"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// What repack and verify-packs have in common: the algorithm, the protocol version and lists of blobs.

// maxProtocol is the protocol version of G4. 0 stands for plans that name none.
const maxProtocol = 2

// blob is a blob of a pack: where its data begins, behind the 4 bytes of its length, and its bytes.
type blob struct{ offset, length uint64 }

const blobBytes = 16 // of a blob in memory

// planHead is what stands beside the list in a plan.
type planHead struct {
	hash    string
	version uint64
}

// member reads one member of the head; ok tells whether it was one.
func (h *planHead) member(s *jsonstream.Reader, name string) (ok bool, err error) {
	switch name {
	case "hash":
		h.hash, err = s.String()
		if _, known := hashNamed(h.hash); err == nil && !known {
			err = s.Fail("unknown variant `%.40s`, expected `blake2b` or `blake3`", h.hash)
		}
		return true, err
	case "protocol_version":
		h.version, err = s.Uint()
		if err == nil && h.version > math.MaxUint32 {
			err = s.Fail("protocol_version is too large")
		}
		return true, err
	}
	return false, nil
}

// check tests version and pairing, in the contract's order (5.1, 5.2).
func (h *planHead) check() (hashName, error) {
	if h.version > maxProtocol {
		return hashName{}, badRequest("protocol version %d not supported; server supports <= %d", h.version, maxProtocol)
	}
	if h.hash == "" {
		h.hash = "blake2b"
	}
	if h.hash == "blake3" && h.version < 2 {
		return hashName{}, badRequest("hash blake3 requires protocol version >= 2, but the request declared %d", h.version)
	}
	hash, _ := hashNamed(h.hash)
	return hash, nil
}

// plan is a request with a list of packs in its body.
type plan interface {
	read(s *jsonstream.Reader) error       // errors are of the text's shape alone
	kept() int64                           // bytes in memory after that
	validate() (hashName, error)           // what needs no repository, in the contract's order
	permit(principal repo.Principal) error // the last thing before the repository is looked at
}

// receive reads the body into p and opens the repository for it, with the hash that names packs in it.
func (x *request) receive(what string, p plan) (*repo.Access, digest.Algorithm, error) {
	s, err := x.planBody()
	if err == nil {
		err = planError(what, p.read(s))
	}
	if err != nil {
		return nil, digest.Algorithm{}, err
	}
	x.forgetText(p.kept())
	hash, err := p.validate()
	if err == nil {
		err = p.permit(x.t.Principal)
	}
	if err != nil {
		return nil, digest.Algorithm{}, err
	}
	a, err := x.access()
	if err != nil {
		return nil, digest.Algorithm{}, err
	}
	config, err := x.d.configs.of(x.r.Context(), a.Repository())
	if err != nil {
		return nil, digest.Algorithm{}, err
	}
	algorithm, err := x.algorithm(hash, config)
	return a, algorithm, err
}

// algorithm tests the plan's hash against the repository's format, which has one for
// life: packs of another name would never verify again (contract, W38).
func (x *request) algorithm(hash hashName, config repositoryConfig) (digest.Algorithm, error) {
	if want := config.hash(); want != "" && want != hash.name {
		return digest.Algorithm{}, status(http.StatusConflict, "hash %s contradicts the repository: packs of format %d are named by %s", hash.name, config.format, want)
	}
	return hash.algorithm()
}

// readList reads a whole plan: its head, and the list of that name by element.
func (h *planHead) readList(s *jsonstream.Reader, list string, element func(i int) error) error {
	err := s.Object(jsonstream.Fields{Names: []string{list, "hash", "protocol_version"}, Required: 1}, func(name string) error {
		if ok, err := h.member(s, name); ok {
			return err
		}
		if name != list {
			return s.Skip()
		}
		return s.Array(element)
	})
	if err != nil {
		return err
	}
	return s.End()
}

var blobFields = jsonstream.Fields{Names: []string{"offset", "length"}, Required: 2}

// readBlobs reads an array of {"offset", "length"}.
func readBlobs(s *jsonstream.Reader, each func(b blob)) error {
	return s.Array(func(int) error {
		var b blob
		err := s.Object(blobFields, func(name string) (err error) {
			switch name {
			case "offset":
				b.offset, err = s.Uint()
			case "length":
				b.length, err = s.Uint()
			default:
				err = s.Skip()
			}
			return err
		})
		if err == nil {
			each(b)
		}
		return err
	})
}

// checkBlob applies the contract's rules for one blob; the caller says which.
func checkBlob(b blob) error {
	switch {
	case b.length == 0:
		return errors.New("blob length must be > 0")
	case b.length > math.MaxUint32:
		return errors.New("blob length exceeds pack format max")
	case b.offset > math.MaxUint64-b.length:
		return errors.New("blob range overflow")
	}
	return nil
}

// packKey reads a pack's key as plans write it: slashes at its ends are tolerated.
func packKey(text string) (string, bool) {
	k := parseKey(strings.Trim(text, "/"))
	return k.text, k.shape == pack
}
