package bench

import (
	"context"

	"packhouse/internal/bytesize"
)

// Deletes deletes items that were stored just before, one by one or many with one request.
type Deletes struct {
	Size        int64
	N           int // items of one sample
	Batch       int // items of one request; 0: single deletes
	Connections int
	OwnOnly     bool
}

func (c Deletes) About() About {
	a := About{
		Name: name("delete", c.Size, c.Connections, 0, "", false), Kind: "delete", Store: "delete-" + sizeName(c.Size), Title: "deletes of " + bytesize.Text(c.Size),
		Size: c.Size, Connections: c.Connections, Measure: Rate, Cache: warm, OwnOnly: c.OwnOnly,
		Floor:     "appends a record, one fdatasync for all that wait; the file is unlinked later",
		DiskRound: int64(c.N) * (c.Size + perFile),
	}
	if c.Batch > 0 {
		a.Name, a.Kind = name("batchdelete", c.Size, c.Connections, 0, "", false), "batchdelete"
		a.Title += ", many by one request"
	}
	return a
}

func (c Deletes) Prepare(ctx context.Context, s *Store) error {
	d, done := s.Connect(1)
	defer done()
	if _, ok := d.(BatchDeleter); c.Batch > 0 && !ok {
		return unsupported("its protocol deletes one item at a time")
	}
	return nil
}

func (c Deletes) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	all, err := s.fillAll(ctx, c.Size, deleteSeries, c.N)
	if err != nil {
		return Sample{}, err
	}
	d, free := s.Connect(c.Connections)
	defer free()
	l := load{connections: c.Connections, to: c.N}
	send := func(ctx context.Context, _, i int) (done, error) { return done{items: 1}, d.Delete(ctx, all[i]) }
	if b, ok := d.(BatchDeleter); c.Batch > 0 && ok {
		l.to = (c.N + c.Batch - 1) / c.Batch
		send = func(ctx context.Context, _, i int) (done, error) {
			some := all[i*c.Batch : min(c.N, (i+1)*c.Batch)]
			return done{items: int64(len(some))}, b.DeleteAll(ctx, some)
		}
	}
	if _, err := d.ListPart(ctx, "00"); err != nil && ctx.Err() != nil { // opens a connection; there may be no such part
		return Sample{}, err
	}
	return s.measure(ctx, func() ([]Operation, error) {
		o, _, err := l.run(ctx, c.About().Kind, send)
		return []Operation{o}, err
	})
}
