package api

import (
	"context"

	"packhouse/repo"
)

// Opener opens the items of a repository that a principal may read. An object must be closed.
type Opener interface {
	Open(ctx context.Context, key string) (*repo.Object, error)
}

var _ Opener = (*repo.Access)(nil)
