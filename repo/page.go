package repo

import "errors"

// pageSize is how many rows are held at once by what lists them for a fn that takes its time.
const pageSize = 512

var errFull = errors.New("page is full")

// inPages calls fn for all that list gives, outside of the index's transaction: for an fn that writes to a client, or uses the
// repository itself. Otherwise a slow client would hold pages of the index, and an fn that waits for the index could block the
// writer, and the writer it. list gives what lies behind the last row that it gave before; nil: all.
func inPages[T any](list func(last *T, fn func(T) error) error, fn func(T) error) error {
	var last *T
	for {
		page := make([]T, 0, pageSize)
		err := list(last, func(row T) error {
			page = append(page, row)
			if len(page) == pageSize {
				return errFull
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFull) {
			return err
		}
		for _, row := range page {
			if err := fn(row); err != nil {
				return err
			}
		}
		if err == nil {
			return nil
		}
		last = &page[len(page)-1]
	}
}
