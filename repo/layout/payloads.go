package layout

import (
	"errors"
	"fmt"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/journal"
)

// Payloads are the small blobs of a repository, which lie in the log of its index.
type Payloads struct{ Index *index.Index }

var _ blobstore.Log = Payloads{}

// Payload implements blobstore.Log. What the disk does not give is an I/O error, which says nothing of the bytes; and an index that is
// damaged is no fault of theirs.
func (p Payloads) Payload(ref string, unchecked bool, buffer []byte) ([]byte, error) {
	b, err := p.Index.Payload(ref, unchecked, buffer)
	damage, damaged := errors.AsType[*journal.DamageError](err)
	switch {
	case errors.Is(err, index.ErrNotFound), errors.Is(err, journal.ErrMissing), errors.Is(err, journal.ErrRemoved):
		return nil, blobstore.ErrNotFound // as of a file that is gone
	case damaged && damage.Err != nil:
		return nil, fmt.Errorf("read %s of the log at %d: %w", damage.File, damage.Offset, damage.Err)
	case damaged, errors.Is(err, journal.ErrBeyondEnd):
		return nil, fmt.Errorf("%w: %v", blobstore.ErrCorrupt, err)
	}
	return b, err
}

// Look implements blobstore.Log.
func (p Payloads) Look() error { return p.Index.LookAtLog() }

// Has implements blobstore.Log.
func (p Payloads) Has(ref string) (bool, error) {
	has, err := p.Index.HasPayload(ref)
	if errors.Is(err, index.ErrNotFound) {
		return false, nil
	}
	return has, err
}
