package journal_test

import (
	"context"
	"fmt"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// A caller keeps, with what it has applied, the position up to which it has. The first time that is where Create began.
func Example() {
	ctx := context.Background()
	o := journal.Options{Dir: "/log", FS: vfs.NewMemory(1 << 20)}
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	check(journal.Create(o, 0, 1))
	l, err := journal.Open(o)
	check(err)
	check(l.Replay(ctx, 0, func(journal.Replayed) error { return nil }))

	var g journal.Group
	check(l.Begin(&g, nil))
	at, err := g.Payload([]byte("a small blob"))
	check(err)
	check(g.Record(journal.KindRows, fmt.Appendf(nil, "its row says %d", at)))
	check(l.Append(ctx, &g)) // it is durable
	check(l.Close())

	l, err = journal.Open(o)
	check(err)
	check(l.Replay(ctx, 0, func(r journal.Replayed) error {
		fmt.Printf("%s\n", r.Body)
		return nil
	}))
	blob, err := l.ReadPayload(at, 12, nil)
	check(err)
	fmt.Printf("%s\n", blob)
	check(l.Close())
	// Output:
	// its row says 4172
	// a small blob
}
