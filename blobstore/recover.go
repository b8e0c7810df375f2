package blobstore

import (
	"context"
	"errors"
	"io/fs"
)

// Sweep settles or removes the files that a crash left in incoming/. referenced reports whether a durable record refers to the blob
// (a record that says that it is to be removed counts too). Its time depends only on the number of such files. It must run before
// the first Create, and returns an error after it. Nothing is changed before referenced has answered for all. It can be repeated.
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
	var keep, drop []blobID
	for _, entry := range entries {
		id, ok := parseName(entry.Name())
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		yes, err := referenced(id.ref())
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
	return len(drop), nil
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
