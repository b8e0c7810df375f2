package api

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"packhouse/index"
	"packhouse/repo"
)

// Lister lists the items of a repository, as a principal may see them.
type Lister interface {
	// Rows calls fn inside one transaction of the index.
	Rows(ctx context.Context, o index.ListOptions, fn func(*index.Row) error) error
}

var _ Lister = (*repo.Access)(nil)

// Listing is an answer that lists items. It is made in pages: each is filled inside one transaction of the index and sent outside of
// any, because the client may read slowly or not at all. So a listing of any length takes one page of memory.
type Listing struct {
	// First is how many bytes make the first page full. A listing that fits into it shows a single state of the repository, and
	// nothing was sent when it ends.
	First int
	// Append appends an entry, or nothing, to a page.
	Append func(page []byte, row *index.Row) []byte
	// Send sends a full page. It must not keep it.
	Send func(page []byte) error
}

// laterPage is how many bytes make a page full after the first: many, as the client runs each time that something arrives, but few enough
// for the processor's cache, and so that it reads one while the next is filled.
const laterPage = 256 << 10

// pages are the memory of pages, to be used again. Those of listings with few entries stay small.
var pages = sync.Pool{New: func() any { return new([]byte) }}

// Run lists what o says. Then it calls end with the last page, which was not sent, and may be the only one, or with why the listing is
// not whole.
func (l Listing) Run(ctx context.Context, a Lister, o index.ListOptions, end func(last []byte, err error) error) error {
	memory := pages.Get().(*[]byte)
	defer pages.Put(memory)
	page, size := (*memory)[:0], l.First
	full := errors.New("page is full")
	for {
		err := a.Rows(ctx, o, func(row *index.Row) error {
			if page = l.Append(page, row); len(page) < size {
				return nil
			}
			o.After = row.Key()
			return full
		})
		*memory = page
		if !errors.Is(err, full) {
			return end(page, err)
		}
		if err := l.Send(page); err != nil {
			return end(nil, err)
		}
		page, size = page[:0], laterPage
	}
}

// AppendString appends a key, or a part of one, as a JSON string. Keys are UTF-8 without control characters and backslashes (package
// keys): only a quotation mark needs an escape.
func AppendString[K string | []byte](b []byte, key K) []byte {
	b = append(b, '"')
	return endString(append(b, key...), len(b))
}

// AppendKey appends the key of a row as a JSON string.
func AppendKey(b []byte, row *index.Row) []byte {
	b = append(b, '"')
	return endString(row.AppendKey(b), len(b))
}

// endString escapes the key that begins there, and ends the string.
func endString(b []byte, begin int) []byte {
	if bytes.IndexByte(b[begin:], '"') >= 0 {
		b = append(b[:begin], bytes.ReplaceAll(b[begin:], []byte(`"`), []byte(`\"`))...)
	}
	return append(b, '"')
}
