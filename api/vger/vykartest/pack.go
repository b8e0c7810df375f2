package vykartest

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// ID names a chunk or a pack: the BLAKE2b-256 of its bytes.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// PackKey is the key of the pack with that name.
func (id ID) PackKey() string {
	name := id.String()
	return "packs/" + name[:2] + "/" + name
}

// ChunkID is the name of a chunk with that content.
func ChunkID(content []byte) ID { return hash(content) }

func hash(b []byte) ID { return blake2b.Sum256(b) }

// nameOf is the hash that a pack's key says it has; "" for other keys.
func nameOf(key string) string {
	rest, ok := strings.CutPrefix(key, "packs/")
	if !ok || len(rest) != 3+64 || rest[2] != '/' {
		return ""
	}
	return rest[3:]
}

// parsePackKey is the inverse of PackKey.
func parsePackKey(key string) (id ID, ok bool) {
	b, err := hex.DecodeString(nameOf(key))
	if err != nil || len(b) != len(id) {
		return ID{}, false
	}
	return ID(b), true
}

const packHeader = 9 // bytes before the first chunk's length

// packer collects chunks of one kind and closes a pack when it is large enough.
type packer struct {
	target  int
	body    []byte
	entries []packedChunk
}

// packedChunk is a chunk in a pack.
type packedChunk struct {
	ID     ID
	Offset int64 // of its first byte
	Length int64
}

// add puts a chunk into the pack that is open; full tells that it is to be closed.
func (p *packer) add(id ID, content []byte) (full bool) {
	if len(p.body) == 0 {
		p.body = append(p.body, "VGERPACK\x01"...)
	}
	p.body = binary.LittleEndian.AppendUint32(p.body, uint32(len(content)))
	p.entries = append(p.entries, packedChunk{id, int64(len(p.body)), int64(len(content))})
	p.body = append(p.body, content...)
	return len(p.body) >= p.target || len(p.entries) >= 10_000
}

// close takes the pack that is open; no entries: there is none.
func (p *packer) close() (body []byte, entries []packedChunk) {
	body, entries = p.body, p.entries
	p.body, p.entries = nil, nil
	return body, entries
}
