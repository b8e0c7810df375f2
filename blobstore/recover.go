package blobstore

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

// Sweep settles or removes the blobs whose marker a crash left in incoming/, and removes unfinished checksums from there.
// referenced reports whether a durable record refers to the blob (a record that says that it is to be removed counts too). Its
// time depends only on the number of such files. It must run before the first Create, and returns an error after it. Nothing is
// changed before referenced has answered for all. It can be repeated.
func (s *Store) Sweep(ctx context.Context, referenced func(Ref) (bool, error)) (removed int, err error) {
	if err := s.ready(); err != nil {
		return 0, err
	}
	if s.created.Load() {
		return 0, errors.New("sweep blobs: some are being written")
	}
	entries, err := s.fs.ReadDir(incomingDir(s.dir))
	if err != nil {
		return 0, wrap("sweep blobs", err)
	}
	var keep, drop, sums []blobID
	for _, entry := range entries {
		name, ofSums := strings.CutSuffix(entry.Name(), sumsSuffix)
		id, ok := parseName(name)
		if !ok {
			continue
		}
		if ofSums {
			sums = append(sums, id)
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		yes, err := eitherReferenced(id, referenced)
		if err != nil {
			return 0, err
		}
		if yes {
			keep = append(keep, id)
		} else {
			drop = append(drop, id)
		}
	}
	if err := s.settleAll(keep); err != nil {
		return 0, err
	}
	if err := s.unlink(drop); err != nil {
		return 0, err
	}
	for _, id := range sums {
		if err := remove(s.fs.Remove, s.newSumsPath(id)); err != nil {
			return len(drop), wrap("sweep checksums", err)
		}
	}
	return len(drop), nil
}

// eitherReferenced asks for a blob by both references that may lead to it: its marker does not say what format its file has.
func eitherReferenced(id blobID, referenced func(Ref) (bool, error)) (bool, error) {
	yes, err := referenced(id.refTo(kindFile))
	if yes || err != nil {
		return yes, err
	}
	return referenced(id.refTo(kindTrailed))
}

// settleAll removes the markers of blobs that are referred to. Such a blob has its name in
// the shard; should a file system have lost that one only, the marker is what saves the bytes.
func (s *Store) settleAll(ids []blobID) error {
	for _, id := range ids {
		switch err := s.fs.Link(s.incomingPath(id), s.blobPath(id)); {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return s.changeError("sweep blobs", err)
		default:
			if err := s.shards[id.shard()].wait(); err != nil {
				return err
			}
		}
		if err := s.Settle(id.ref()); err != nil {
			return err
		}
	}
	return nil
}
