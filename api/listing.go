package api

import (
	"context"
	"errors"

	"packhouse/index"
	"packhouse/repo"
)

// ErrStream ends the part of a listing that is buffered in memory: see List.
var ErrStream = errors.New("listing is too long for memory")

// Lister lists the items of a repository, as a principal may see them.
type Lister interface {
	// List calls fn inside one transaction of the index, Each outside of any.
	List(ctx context.Context, o index.ListOptions, fn func(index.Entry) error) error
	Each(ctx context.Context, o index.ListOptions, fn func(index.Entry) error) error
}

var _ Lister = (*repo.Access)(nil)

// List runs a listing for an answer. First fn collects entries inside one transaction of the index, so that an answer that fits
// into memory shows a single state. When the memory limit is reached, fn returns ErrStream for the entry that it has just
// taken, and begins to send with the next one. From then on it is called outside of any transaction, because the client may
// read slowly or not at all. fn must not send before it has returned ErrStream, and returns it once.
func List(ctx context.Context, a Lister, o index.ListOptions, fn func(index.Entry) error) error {
	err := a.List(ctx, o, func(e index.Entry) error {
		o.After = e.Key
		return fn(e)
	})
	if errors.Is(err, ErrStream) {
		return a.Each(ctx, o, fn)
	}
	return err
}
