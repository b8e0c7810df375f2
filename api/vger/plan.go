package vger

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"

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
func (h *planHead) member(s *jsonStream, name string) (ok bool, err error) {
	switch name {
	case "hash":
		h.hash, err = s.string()
		if _, known := hashNamed(h.hash); err == nil && !known {
			err = s.fail("unknown variant `%.40s`, expected `blake2b` or `blake3`", h.hash)
		}
		return true, err
	case "protocol_version":
		h.version, err = s.uint()
		if err == nil && h.version > math.MaxUint32 {
			err = s.fail("protocol_version is too large")
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
	read(s *jsonStream) error              // errors are of the text's shape alone
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
func (h *planHead) readList(s *jsonStream, list string, element func() error) error {
	err := s.record(fields{names: []string{list, "hash", "protocol_version"}, required: 1}, func(name string) error {
		if ok, err := h.member(s, name); ok {
			return err
		}
		if name != list {
			return s.skip()
		}
		return s.array(element)
	})
	if err != nil {
		return err
	}
	return s.end()
}

// fields are the members of an object that mean something; the first few of them are required.
type fields struct {
	names    []string // at most 4
	required int
}

// record reads an object. A field that occurs twice is an error, because it is not clear which of the two is meant.
func (s *jsonStream) record(f fields, member func(name string) error) error {
	var seen [4]bool
	err := s.object(func(name string) error {
		if i := slices.Index(f.names, name); i >= 0 {
			if seen[i] {
				return s.fail("duplicate field `%s`", name)
			}
			seen[i] = true
		}
		return member(name)
	})
	if err != nil {
		return err
	}
	for i, name := range f.names[:f.required] {
		if !seen[i] {
			return s.fail("missing field `%s`", name)
		}
	}
	return nil
}

var blobFields = fields{names: []string{"offset", "length"}, required: 2}

// blobs reads an array of {"offset", "length"}.
func (s *jsonStream) blobs(each func(b blob)) error {
	return s.array(func() error {
		var b blob
		err := s.record(blobFields, func(name string) (err error) {
			switch name {
			case "offset":
				b.offset, err = s.uint()
			case "length":
				b.length, err = s.uint()
			default:
				err = s.skip()
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
