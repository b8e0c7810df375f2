package bench

import (
	"context"
	"io"
)

// Driver is a client of one wire dialect, with the requests that the workloads need. An item's name is the digest of its bytes in
// 64 hexadecimal digits; the driver makes the dialect's key from it. Methods are safe for concurrent use. A driver is one
// file; if a dialect cannot do something, the driver does not implement the interface for it.
type Driver interface {
	// Create makes the repository. It must not be there.
	Create(ctx context.Context) error
	// Put stores an item; nil: the server acknowledged it.
	Put(ctx context.Context, name string, body []byte) error
	// Get reads length bytes of an item from offset on, or with length 0 all of it, to w (nil: nowhere), and
	// returns how many came.
	Get(ctx context.Context, name string, offset, length int64, w io.Writer) (int64, error)
	Delete(ctx context.Context, name string) error
	// List reads the names of all items, in as many requests as a client of the dialect makes, and returns how many they are.
	List(ctx context.Context) (items int64, err error)
	// ListPart is a listing as clients make it between other requests: of the items whose name begins with two digits, or
	// where the dialect has no such listing, of another small part.
	ListPart(ctx context.Context, digits string) (items int64, err error)
}

// BatchDeleter is a Driver that can delete many items with one request.
type BatchDeleter interface {
	DeleteAll(ctx context.Context, names []string) error
}

// Compactor is a Driver whose server can copy the used parts of packs into new ones. Other clients read these parts, store them again
// and delete the packs.
type Compactor interface {
	Compact(ctx context.Context, packs []Pack) error
}

// Filler is a Driver whose server cannot return what was Put: its store is filled in another way for workloads that read.
type Filler interface {
	Fill(ctx context.Context, name string, body []byte) error
}

// Pack is an item with the ranges that are in use.
type Pack struct {
	Name string
	Keep []Range // in the order of offsets
}

// Range is a part of an item, in bytes.
type Range struct{ Offset, Length int64 }

// fill stores an item so that it can be read.
func fill(ctx context.Context, d Driver, name string, body []byte) error {
	if f, ok := d.(Filler); ok {
		return f.Fill(ctx, name, body)
	}
	return d.Put(ctx, name, body)
}
