package bench

import (
	"context"
	"time"
)

// Opens starts a server on a store with many items, after it was stopped or killed, and requests one item.
type Opens struct {
	Items   int
	N       int  // items with bytes, of which one is asked for
	Kill    bool // before: else it was stopped in order
	OwnOnly bool
}

func (c Opens) About() About {
	a := About{
		Name: "open" + countName(c.Items), Kind: "open", Store: storeName(0, c.Items), Title: "from the start of the program to its first answer, after a stop",
		Connections: 1, Items: c.Items, Measure: Seconds, Cache: "warm: the store was in use shortly before", Cold: true, OwnOnly: c.OwnOnly,
		Floor: "opens its bbolt file and answers",
	}
	if c.Kill {
		a.Name = "open" + countName(c.Items) + "-killed"
		a.Title = "from the start of the program to its first answer, after kill -9 under load"
	}
	return a
}

// openSize is the size of the items with bytes.
const openSize = 200

func (c Opens) Prepare(ctx context.Context, s *Store) error {
	return s.fillOnce(ctx, openSize, getSeries, c.N)
}

func (c Opens) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	all, err := s.names.of(ctx, s.Server.Hash, openSize, getSeries, c.N)
	if err != nil {
		return Sample{}, err
	}
	if c.Kill {
		if err := c.killUnderLoad(ctx, s); err != nil {
			return Sample{}, err
		}
	}
	if err := s.syncDisk(); err != nil {
		return Sample{}, err
	}
	before, err := s.usage()
	if err != nil {
		return Sample{}, err
	}
	start := time.Now()
	if err := s.start(ctx, startOptions{}); err != nil {
		return Sample{}, err
	}
	d, free := s.Connect(1)
	defer free()
	o := Operation{Name: "open"}
	_, err = d.Get(ctx, all[0], 0, 0, nil)
	took := time.Since(start)
	if o.add(took, done{items: 1}, err); ctx.Err() != nil {
		return Sample{}, ctx.Err()
	}
	x, err := s.sample(before, took, []Operation{o})
	if err != nil {
		return x, err
	}
	return x, s.stop()
}

// killUnderLoad starts the server and kills it while it stores items.
func (c Opens) killUnderLoad(ctx context.Context, s *Store) error {
	all, err := s.names.of(ctx, s.Server.Hash, openSize, putSeries, 10_000)
	if err != nil {
		return err
	}
	if err := s.start(ctx, startOptions{}); err != nil {
		return err
	}
	d, free := s.Connect(helpers)
	defer free()
	loading, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	stored := make(chan struct{}, len(all))
	put := putter(d.Put, openSize, helpers, putSeries, all)
	go func() {
		defer close(ended)
		_, _, _ = load{connections: helpers, to: len(all)}.run(loading, "", func(ctx context.Context, worker, i int) (done, error) {
			did, err := put(ctx, worker, i)
			stored <- struct{}{}
			return did, err
		})
	}()
	for range 10 * helpers {
		select {
		case <-stored:
		case <-ended:
		}
	}
	err = s.kill()
	end()
	<-ended
	return err
}
