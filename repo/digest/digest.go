// Package digest has the hash algorithms that a client may choose: those of Python's hashlib with a fixed length, BLAKE3, and
// V'Ger's BLAKE2b of 32 bytes. Source: borgstore-rest 3.8, vger-rest 4.3.
//
// Start reading at Lookup.
package digest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"sort"

	"github.com/emmansun/gmsm/sm3"
	"github.com/zeebo/blake3"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blake2s"
	//lint:ignore SA1019 clients may name it; it protects nothing here
	"golang.org/x/crypto/ripemd160"
)

// ErrUnsupported is the error for an unknown algorithm.
var ErrUnsupported = errors.New("unsupported hash algorithm")

// Algorithm is one hash function.
type Algorithm struct {
	Name string
	Size int // bytes of a digest
	New  func() hash.Hash
}

// Names of algorithms that the server itself uses.
const (
	SHA256     = "sha256"
	BLAKE3     = "blake3"
	BLAKE2b256 = "blake2b-256" // unkeyed BLAKE2b with a 32-byte digest; not hashlib's "blake2b"
)

// unkeyed makes a constructor of one that fails only for a bad key.
func unkeyed(make func([]byte) (hash.Hash, error)) func() hash.Hash {
	return func() hash.Hash {
		h, err := make(nil)
		if err != nil {
			panic("digest: a hash without a key: " + err.Error()) // cannot happen
		}
		return h
	}
}

var algorithms = map[string]func() hash.Hash{
	"md5":        md5.New,
	"sha1":       sha1.New,
	"md5-sha1":   func() hash.Hash { return joined{md5.New(), sha1.New()} },
	"sha224":     sha256.New224,
	SHA256:       sha256.New,
	"sha384":     sha512.New384,
	"sha512":     sha512.New,
	"sha512_224": sha512.New512_224,
	"sha512_256": sha512.New512_256,
	"sha3_224":   func() hash.Hash { return sha3.New224() },
	"sha3_256":   func() hash.Hash { return sha3.New256() },
	"sha3_384":   func() hash.Hash { return sha3.New384() },
	"sha3_512":   func() hash.Hash { return sha3.New512() },
	"blake2b":    unkeyed(blake2b.New512),
	"blake2s":    unkeyed(blake2s.New256),
	"ripemd160":  ripemd160.New,
	"sm3":        sm3.New,
	BLAKE3:       func() hash.Hash { return blake3.New() },
	BLAKE2b256:   unkeyed(blake2b.New256),
}

// Lookup finds an algorithm by its exact name.
func Lookup(name string) (Algorithm, error) {
	create, ok := algorithms[name]
	if !ok {
		return Algorithm{}, fmt.Errorf("%w: %s", ErrUnsupported, name)
	}
	return Algorithm{Name: name, Size: create().Size(), New: create}, nil
}

// Names lists what Lookup knows, sorted.
func Names() []string {
	names := make([]string, 0, len(algorithms))
	for name := range algorithms {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// joined is two hashes of the same bytes, one digest after the other.
type joined [2]hash.Hash

func (j joined) Write(p []byte) (int, error) {
	j[0].Write(p) // never fails
	return j[1].Write(p)
}

func (j joined) Sum(b []byte) []byte { return j[1].Sum(j[0].Sum(b)) }
func (j joined) Reset()              { j[0].Reset(); j[1].Reset() }
func (j joined) Size() int           { return j[0].Size() + j[1].Size() }
func (j joined) BlockSize() int      { return 64 }
