package repo

import (
	"errors"
	"fmt"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/journal"
)

// payloads are the small blobs, which lie in the log of the index.
type payloads struct{ index *index.Index }

// Payload implements blobstore.Log. What the disk does not give is an I/O error, which says nothing of the bytes; and an index that is
// damaged is no fault of theirs.
func (p payloads) Payload(ref string, unchecked bool) ([]byte, error) {
	b, err := p.index.Payload(ref, unchecked)
	damage, damaged := errors.AsType[*journal.DamageError](err)
	switch {
	case errors.Is(err, index.ErrNotFound):
		return nil, blobstore.ErrNotFound
	case damaged && damage.Err != nil:
		return nil, fmt.Errorf("read %s of the log at %d: %w", damage.File, damage.Offset, damage.Err)
	case damaged, errors.Is(err, journal.ErrMissing), errors.Is(err, journal.ErrRemoved), errors.Is(err, journal.ErrBeyondEnd):
		return nil, fmt.Errorf("%w: %v", blobstore.ErrCorrupt, err)
	}
	return b, err
}
