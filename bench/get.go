package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"packhouse/internal/bytesize"
)

// Gets reads items of one size over several connections, whole or a part of each.
type Gets struct {
	Size        int64
	Part        int64 // bytes of the range; 0: all
	Connections int
	Time        time.Duration // of one sample
	N           int           // items that are read in turn
	Items       int           // in the store beside those
	Curve       string
	TLS         bool
	OwnOnly     bool
}

func (c Gets) About() About {
	a := About{
		Name: name("get", c.Size, c.Connections, c.Items, c.Curve, c.TLS), Kind: "get", Store: storeName(c.Size, c.Items), Title: "gets of " + bytesize.Text(c.Size),
		Size: c.Size, Connections: c.Connections, Items: c.Items, TLS: c.TLS, Measure: rateMeasure(c.Size), Curve: c.Curve, Cache: warm,
		Floor: "net/http's handler of files",
		Disk:  int64(c.N) * (c.Size + perFile), OwnOnly: c.OwnOnly,
	}
	if c.Part > 0 {
		a.Name, a.Kind = name("range", c.Size, c.Connections, c.Items, c.Curve, c.TLS), "range"
		a.Title = fmt.Sprintf("gets of %s out of %s", bytesize.Text(c.Part), bytesize.Text(c.Size))
		a.Measure = Rate
	}
	return a
}

func (c Gets) Prepare(ctx context.Context, s *Store) error {
	return s.fillOnce(ctx, c.Size, getSeries, c.N)
}

func (c Gets) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	all, err := s.names.of(ctx, s.Server.Hash, c.Size, getSeries, c.N)
	if err != nil {
		return Sample{}, err
	}
	d, done := s.Connect(c.Connections)
	defer done()
	get := getter(d, all, c.Size, c.Part)
	if _, _, err := (load{connections: c.Connections, to: c.Connections}).run(ctx, "", get); err != nil { // opens the connections
		return Sample{}, err
	}
	return s.measure(ctx, func() ([]Operation, error) {
		const noEnd = math.MaxInt
		o, _, err := load{connections: c.Connections, to: noEnd, time: c.Time}.run(ctx, c.About().Kind, get)
		return []Operation{o}, err
	})
}

// getter reads the items in turn, of each all or the next part. A body of another length is a failure.
func getter(d Driver, names []string, size, part int64) func(context.Context, int, int) (done, error) {
	parts := int64(1)
	want := size
	if part > 0 {
		parts, want = size/part, part
	}
	return func(ctx context.Context, _, i int) (done, error) {
		name, offset := names[i%len(names)], int64(i)%parts*part
		n, err := d.Get(ctx, name, offset, part, nil)
		if err == nil && n != want {
			err = fmt.Errorf("get %s: %d bytes, want %d", name, n, want)
		}
		return done{1, n}, err
	}
}
