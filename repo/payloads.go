package repo

import (
	"errors"
	"fmt"

	"packhouse/blobstore"
	"packhouse/index"
)

// payloads are the small blobs, which lie in the log of the index.
type payloads struct{ index *index.Index }

func (p payloads) Payload(ref string, unchecked bool) ([]byte, error) {
	b, err := p.index.Payload(ref, unchecked)
	switch {
	case errors.Is(err, index.ErrNotFound):
		return nil, blobstore.ErrNotFound
	case errors.Is(err, index.ErrCorrupt):
		return nil, fmt.Errorf("%w: %w", blobstore.ErrCorrupt, err)
	}
	return b, err
}
