package blobstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// Has reports whether the blob has a file, or for a blob in the log whether its segment is there. It reads neither.
func (s *Store) Has(ref Ref) (bool, error) {
	if ref.inLog() {
		return s.log != nil && s.logHas(ref), nil
	}
	id, err := ref.id()
	if err != nil {
		return false, err
	}
	return s.there(s.blobPath(id), "look for blob")
}

// logHas reports that a blob in the log is gone only if that is known.
func (s *Store) logHas(ref Ref) bool {
	has, err := s.log.Has(string(ref))
	return has || err != nil
}

// HasShard reports whether the directory of the blob's shard exists. If it does, a blob that is not in it is missing; if it does not,
// nothing is known about the blob.
func (s *Store) HasShard(ref Ref) (bool, error) {
	if ref.inLog() {
		return true, nil
	}
	id, err := ref.id()
	if err != nil {
		return false, err
	}
	return s.there(s.shardDir(id.shard()), "look for a directory of blobs")
}

func (s *Store) there(name, op string) (bool, error) {
	_, err := s.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, wrap(op, err)
	}
	return true, nil
}

// MissingShards returns the names of the shards whose directory is missing. The store can be opened without them, and blobs in the
// other shards are not affected.
func (s *Store) MissingShards() ([]string, error) {
	entries, err := s.fs.ReadDir(blobsDir(s.dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, wrap("list the directories of blobs", err)
	}
	found := make(map[string]bool, len(entries))
	for _, entry := range entries {
		found[entry.Name()] = entry.IsDir()
	}
	var missing []string
	for shard := range 256 {
		if name := shardName(byte(shard)); !found[name] {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// MakeShards creates the directories that MissingShards returns, durably and empty.
func (s *Store) MakeShards() error {
	if err := s.ready(); err != nil {
		return err
	}
	return Init(s.fs, s.dir)
}

// Names holds the names of all blobs that existed when their shards were read, in 8 bytes each.
type Names struct {
	shards [256][]uint64
	inLog  func(Ref) bool // reports it of a blob in the log
}

// Names reads the 256 shard directories. rest, if not nil, is called after each with the time that it took, and may wait; its error
// ends the reading. Blobs that are added or removed during the call may or may not be included. A missing directory has no names.
func (s *Store) Names(ctx context.Context, rest func(ctx context.Context, took time.Duration) error) (*Names, error) {
	n := &Names{inLog: func(ref Ref) bool { return s.log != nil && s.logHas(ref) }}
	if s.log != nil {
		if err := s.log.Look(); err != nil {
			return nil, wrap("list the segments of the log", err)
		}
	}
	for shard := range n.shards {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		entries, err := s.fs.ReadDir(s.shardDir(byte(shard)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, wrap("list blobs", err)
		}
		prints := make([]uint64, 0, len(entries))
		for _, entry := range entries {
			if id, ok := parseName(entry.Name()); ok && id.shard() == byte(shard) {
				prints = append(prints, id.print())
			}
		}
		slices.Sort(prints)
		n.shards[shard] = prints
		if rest != nil {
			if err := rest(ctx, time.Since(began)); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// Has reports whether the blob existed. With a million blobs, the probability of a wrong "yes" is 1 in 10^11, because two names in a
// shard may have the same hash.
func (n *Names) Has(ref Ref) bool {
	if ref.inLog() {
		return n.inLog(ref)
	}
	id, err := ref.id()
	if err != nil {
		return false
	}
	_, found := slices.BinarySearchFunc(n.shards[id.shard()], id.print(), cmp.Compare[uint64])
	return found
}

// print are 64 bits of an ID, which is nearly all random.
func (id blobID) print() uint64 {
	const odd = 0x9e3779b97f4a7c15
	return binary.BigEndian.Uint64(id[:8])*odd ^ binary.BigEndian.Uint64(id[8:])
}
