package bench

import (
	"context"
	"fmt"
	"time"

	"packhouse/internal/bytesize"
)

// Puts stores items of one size over several connections. It isolates the cost of durability: a single connection waits for every
// sync, many connections can share them.
type Puts struct {
	Size        int64
	Connections int
	Time        time.Duration // of one sample
	Items       int           // in the store beforehand
	Curve       string
	TLS         bool
	OwnOnly     bool
}

// limit is the number of items that are made for a sample: more than any server stores meanwhile. One that does
// ends its sample early.
func (c Puts) limit() int {
	rate := 1.2e9 / float64(c.Size) // of what a disk takes
	switch {
	case c.Connections == 1:
		rate = min(rate, 5000)
	case c.Connections <= 8:
		rate = min(rate, 15_000)
	default:
		rate = min(rate, 25_000)
	}
	return int(rate*c.Time.Seconds()) + 2*c.Connections
}

func (c Puts) About() About {
	a := About{
		Name: name("put", c.Size, c.Connections, c.Items, c.Curve, c.TLS), Kind: "put", Store: storeName(c.Size, c.Items), Title: "durable puts of " + bytesize.Text(c.Size),
		Size: c.Size, Connections: c.Connections, Items: c.Items, TLS: c.TLS, Measure: rateMeasure(c.Size), Curve: c.Curve, Cache: warm,
		Floor:     "appends to one file, one fdatasync for all that wait, SHA-256",
		DiskRound: int64(c.limit()) * (c.Size + perFile), Stays: c.stay(), OwnOnly: c.OwnOnly,
	}
	if c.Size >= appended {
		a.Floor = "writes a file with SHA-256, then fdatasync, then sync of the directory"
	}
	return a
}

// perFile is what a file costs beside its bytes: a started block, an inode, its entry in a directory and in an index.
const perFile = 5 << 10

// name is that of a workload with these parameters. Points of a curve differ by their items.
func name(what string, size int64, connections, items int, curve string, tls bool) string {
	n := what + sizeName(size)
	if tls {
		n += "-tls"
	}
	if curve != "" {
		return fmt.Sprintf("%s@%s", curve, countName(items))
	}
	return fmt.Sprintf("%s@%d", n, connections)
}

func (c Puts) Prepare(ctx context.Context, s *Store) error { return nil }

// stay tells whether what was stored stays until the store is removed: files that were just deleted make it slow to make
// others on some file systems (ext4 without a journal), so that few are.
func (c Puts) stay() bool { return c.Size < 64<<10 }

func (c Puts) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	of := putSeries
	if c.stay() {
		of = of.of(round, c.Connections)
	}
	all, err := s.names.of(ctx, s.Server.Hash, c.Size, of, c.limit())
	if err != nil {
		return Sample{}, err
	}
	d, done := s.Connect(c.Connections)
	defer done()
	put := putter(d.Put, c.Size, c.Connections, of, all)
	_, _, err = load{connections: c.Connections, to: c.Connections}.run(ctx, "", put) // opens the connections
	if err != nil {
		return Sample{}, err
	}
	used := 0
	x, err := s.measure(ctx, func() ([]Operation, error) {
		var o Operation
		var err error
		o, used, err = load{connections: c.Connections, from: c.Connections, to: len(all), time: c.Time}.run(ctx, "put", put)
		return []Operation{o}, err
	})
	if err != nil || c.stay() {
		return x, err
	}
	return x, removeAll(ctx, d, all[:used])
}

// putter stores the items with these names, the first ones of a series.
func putter(put func(context.Context, string, []byte) error, size int64, workers int, of series, names []string) func(context.Context, int, int) (done, error) {
	bodies := make([][]byte, workers)
	for w := range bodies {
		bodies[w] = newBody(size)
	}
	return func(ctx context.Context, worker, i int) (done, error) {
		stamp(bodies[worker], uint64(of)+uint64(i))
		return done{1, size}, put(ctx, names[i], bodies[worker])
	}
}

// fillOnce is fillAll for items that stay: those that another workload of the store left are not stored again, which not
// every server allows.
func (s *Store) fillOnce(ctx context.Context, size int64, of series, n int) error {
	key := namesKey{s.Server.Hash, size, of}
	if s.filled[key] >= n {
		return nil
	}
	if _, err := s.fillAll(ctx, size, of, n); err != nil {
		return err
	}
	s.filled[key] = n
	return nil
}

// fillAll stores the first n items of a series and returns their names. It fails if one of them fails.
func (s *Store) fillAll(ctx context.Context, size int64, of series, n int) ([]string, error) {
	all, err := s.names.of(ctx, s.Server.Hash, size, of, n)
	if err != nil {
		return nil, err
	}
	d, done := s.Connect(helpers)
	defer done()
	put := putter(func(ctx context.Context, name string, body []byte) error {
		return patiently(ctx, func() error { return fill(ctx, d, name, body) })
	}, size, helpers, of, all)
	o, _, err := load{connections: helpers, to: n}.run(ctx, "fill", put)
	if err == nil && o.Failures > 0 {
		err = fmt.Errorf("%d of %d items could not be stored: %s", o.Failures, n, o.Errors[0])
	}
	return all, err
}

// patiently repeats what is only preparation, for servers that fail some of several requests at a time.
func patiently(ctx context.Context, do func() error) (err error) {
	for try := range 10 {
		if err = do(); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
	return err
}

// helpers is the number of connections over which stores are filled and cleaned.
const helpers = 8

// removeAll deletes what a sample stored. What is missing, as its put failed, is no error.
func removeAll(ctx context.Context, d Driver, names []string) error {
	if b, ok := d.(BatchDeleter); ok {
		for first := 0; first < len(names); first += 1000 {
			if err := b.DeleteAll(ctx, names[first:min(len(names), first+1000)]); err != nil {
				return fmt.Errorf("clean up: %w", err)
			}
		}
		return nil
	}
	o, _, err := load{connections: helpers, to: len(names)}.run(ctx, "", func(ctx context.Context, _, i int) (done, error) {
		return done{}, patiently(ctx, func() error {
			if err := d.Delete(ctx, names[i]); !absent(err) {
				return err
			}
			return nil
		})
	})
	if err == nil && o.Failures > 0 {
		err = fmt.Errorf("clean up: %d of %d items could not be deleted: %s", o.Failures, len(names), o.Errors[0])
	}
	return err
}
