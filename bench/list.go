package bench

import (
	"context"
	"fmt"
)

// Lists reads the names of all items, once.
type Lists struct {
	Items   int
	OwnOnly bool
}

func (c Lists) About() About {
	return About{
		Name: "list" + countName(c.Items), Kind: "list", Store: storeName(0, c.Items), Title: "one listing of all items", Connections: 1, Items: c.Items,
		Measure: Seconds, Cache: "warm: the same listing was read before", OwnOnly: c.OwnOnly,
		Floor: "a cursor over a bbolt file, written as a JSON array of names",
	}
}

func (c Lists) Prepare(ctx context.Context, s *Store) error { return nil }

func (c Lists) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	d, free := s.Connect(1)
	defer free()
	if _, err := d.List(ctx); err != nil {
		return Sample{}, err
	}
	return s.measure(ctx, func() ([]Operation, error) {
		o, _, err := load{connections: 1, to: 1}.run(ctx, "list", func(ctx context.Context, _, _ int) (done, error) {
			n, err := d.List(ctx)
			if err == nil && n < int64(c.Items) {
				err = fmt.Errorf("list: %d items, want %d", n, c.Items)
			}
			return done{items: n}, err
		})
		return []Operation{o}, err
	})
}
