package vger

import (
	"net/http"

	"packhouse/internal/jsonstream"
	"packhouse/repo"
)

// verifyPlan is a verify-packs request after its text was read.
type verifyPlan struct {
	planHead
	packs  []verifyPack
	count  int
	total  uint64 // bytes expected of all packs, no further than the limit needs
	wrong  error  // the first pack that breaks a rule; from then on nothing is kept
	limits Limits
}

// verifyPack is one pack to verify.
type verifyPack struct {
	key      string // as the client wrote it
	expected []blob
}

// canonical is the key under which the pack is stored.
func (p verifyPack) canonical() string { key, _ := packKey(p.key); return key }

// name is the digest the pack is named by.
func (p verifyPack) name() string { return parseKey(p.canonical()).packName() }

// read implements plan.
func (p *verifyPlan) read(s *jsonstream.Reader) error {
	return p.readList(s, "packs", func(int) error { return p.readPack(s) })
}

// kept implements plan.
func (p *verifyPlan) kept() (n int64) {
	for _, pack := range p.packs {
		n += int64(cap(pack.expected)) * blobBytes
	}
	return n
}

// permit implements plan: who may read the packs is asked for each.
func (p *verifyPlan) permit(repo.Principal) error { return nil }

var verifyFields = jsonstream.Fields{Names: []string{"pack_key", "expected_blobs", "expected_size"}, Required: 2}

func (p *verifyPlan) readPack(s *jsonstream.Reader) error {
	var pack verifyPack
	var size uint64
	var wrong error
	i, blobs := p.count, 0
	p.count++
	err := s.Object(verifyFields, func(name string) (err error) {
		switch name {
		case "pack_key":
			pack.key, err = s.String()
		case "expected_size":
			size, err = s.Uint()
		case "expected_blobs":
			err = readBlobs(s, func(b blob) {
				j := blobs
				blobs++
				if wrong != nil || p.wrong != nil || p.count > p.limits.VerifyPacks {
					return
				}
				if err := checkBlob(b); err != nil {
					wrong = badRequest("%v at pack %d blob %d", err, i, j)
					return
				}
				pack.expected = append(pack.expected, b)
			})
		default:
			err = s.Skip()
		}
		return err
	})
	if err == nil {
		p.add(i, pack, size, wrong)
	}
	return err
}

func (p *verifyPlan) add(i int, pack verifyPack, size uint64, wrong error) {
	if p.wrong != nil || p.count > p.limits.VerifyPacks {
		return
	}
	switch _, ok := packKey(pack.key); {
	case !ok:
		p.wrong = badRequest("invalid pack_key at pack %d: %.200s", i, pack.key)
	case size == 0:
		p.wrong = badRequest("expected_size must be > 0 at pack %d", i)
	default:
		p.wrong = wrong
	}
	if p.total += size; p.total < size {
		p.total = 1<<64 - 1
	}
	p.packs = append(p.packs, pack)
}

// validate implements plan (contract, 6.1).
func (p *verifyPlan) validate() (hashName, error) {
	hash, err := p.check()
	switch {
	case err != nil:
		return hashName{}, err
	case p.count > p.limits.VerifyPacks:
		return hashName{}, badRequest("too many packs to verify: %d (max %d)", p.count, p.limits.VerifyPacks)
	case p.wrong != nil:
		return hashName{}, p.wrong
	case p.total > uint64(p.limits.VerifyBytes):
		return hashName{}, status(http.StatusBadRequest, "estimated verify I/O too large: %d bytes (max %d)", p.total, p.limits.VerifyBytes)
	}
	return hash, nil
}
