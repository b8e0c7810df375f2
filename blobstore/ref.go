package blobstore

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
)

// Ref is the location of a blob. Only this package interprets it; it has at most 32 bytes.
type Ref string

// kindFile is the first byte of a Ref to a blob in a file of its own; its ID follows.
const kindFile = 1

// blobID names a blob for good: it is never given twice.
type blobID [16]byte

func (id blobID) name() string { return hex.EncodeToString(id[:]) }
func (id blobID) shard() byte  { return id[len(id)-1] }
func (id blobID) ref() Ref     { return Ref(append([]byte{kindFile}, id[:]...)) }

// parseName is the reverse of name; ok is false for names that are not ours.
func parseName(name string) (id blobID, ok bool) {
	if len(name) != hex.EncodedLen(len(id)) {
		return id, false
	}
	if _, err := hex.Decode(id[:], []byte(name)); err != nil {
		return id, false
	}
	return id, id.name() == name // not in capitals
}

// id is what the reference holds; one that this package never gave out is ErrCorrupt.
func (r Ref) id() (id blobID, err error) {
	if len(r) != 1+len(id) || r[0] != kindFile {
		return id, fmt.Errorf("%w: malformed reference %x", ErrCorrupt, string(r))
	}
	copy(id[:], r[1:])
	return id, nil
}

// newID draws an ID.
func (s *Store) newID() (id blobID, err error) {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(s.now().UnixMilli()))
	copy(id[:6], ms[2:])
	if _, err := io.ReadFull(s.rand, id[6:]); err != nil {
		return id, fmt.Errorf("draw a blob ID: %w", err)
	}
	return id, nil
}

func shardName(shard byte) string { return hex.EncodeToString([]byte{shard}) }

// Directories of a store.
const (
	BlobsDir    = "blobs"    // one for each shard, 00 to ff
	IncomingDir = "incoming" // uploads under way, and second names of blobs whose index commit is not known yet
)

func incomingDir(dir string) string            { return filepath.Join(dir, IncomingDir) }
func blobsDir(dir string) string               { return filepath.Join(dir, BlobsDir) }
func (s *Store) shardDir(shard byte) string    { return filepath.Join(s.dir, BlobsDir, shardName(shard)) }
func (s *Store) incomingPath(id blobID) string { return filepath.Join(s.dir, IncomingDir, id.name()) }
func (s *Store) blobPath(id blobID) string {
	return filepath.Join(s.dir, BlobsDir, shardName(id.shard()), id.name())
}
