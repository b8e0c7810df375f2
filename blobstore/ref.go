package blobstore

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"packhouse/journal"
)

// Ref says where a blob lies: in a file, whose refs only this package makes, or in the log, see journal.ParseRef. It is at most 32 bytes.
type Ref string

// The first byte of a Ref to a blob in a file of its own; its ID follows. Refs of another length, or with another first byte, are to the
// log, see package journal.
const (
	kindTrailed = 1 // a file of format 1
	kindFile    = 3 // a file of format 2
	kindNewest  = kindFile
)

// blobID names a blob for good: it is never given twice.
type blobID [16]byte

func (id blobID) name() string { return hex.EncodeToString(id[:]) }
func (id blobID) shard() byte  { return id[len(id)-1] }
func (id blobID) ref() Ref     { return id.refTo(kindFile) }

func (id blobID) refTo(kind byte) Ref { return Ref(append([]byte{kind}, id[:]...)) }

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

// inLog tells of a blob that lies in the log.
func (r Ref) inLog() bool {
	_, ok := journal.ParseRef(string(r))
	return ok
}

// id is what the reference to a file holds: ErrNewer for one of a kind that is not known yet, ErrCorrupt for what is no reference.
func (r Ref) id() (id blobID, err error) {
	switch {
	case len(r) != 1+len(id) || r[0] == 0:
		return id, fmt.Errorf("%w: malformed reference %x", ErrCorrupt, string(r))
	case r[0] > kindNewest:
		return id, fmt.Errorf("%w: reference %x", ErrNewer, string(r))
	case r[0] != kindTrailed && r[0] != kindFile:
		return id, fmt.Errorf("%w: malformed reference %x", ErrCorrupt, string(r))
	}
	copy(id[:], r[1:])
	return id, nil
}

// trailed tells of a reference to a file of format 1.
func (r Ref) trailed() bool { return r[0] == kindTrailed }

// Whole tells of a reference to a file that is the payload and nothing else.
func (r Ref) Whole() bool {
	_, err := r.id()
	return err == nil && !r.inLog() && !r.trailed()
}

// ByAge compares references to files by the time at which the blobs were begun.
func ByAge(a, b Ref) int { return cmp.Compare(a[1:], b[1:]) }

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
