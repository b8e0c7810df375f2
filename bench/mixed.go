package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/repo/digest"
)

// Mixed is a load like that of several clients at a time: of a hundred requests 70 are gets, 20 puts, 5 deletes and 5 listings of a
// directory. At the same time the server scrubs its items, writes a snapshot of its index, and deletes large items. It measures
// the effect on the requests of clients: percentiles, and the longest time in which no request ended.
type Mixed struct {
	Size        int64
	Items       int // that are read
	Large       int // items of LargeSize that are deleted beside the load
	LargeSize   int64
	Connections int
	Time        time.Duration // of one sample
	OwnOnly     bool
}

func (c Mixed) About() About {
	return About{
		Name: "mixed", Kind: "mixed", Store: "mixed", Connections: c.Connections, Size: c.Size, Measure: Rate, Cache: warm, OwnOnly: c.OwnOnly,
		Title:         "70 % gets, 20 % puts, 5 % deletes and 5 % listings of a part; a scrub, snapshots and deletes of large items beside",
		Floor:         "as the floors of the single requests; there is nothing to scrub and no index to snapshot",
		SnapshotEvery: max(time.Second, (c.Time / 4).Truncate(time.Second)),
		Disk:          int64(c.Items)*(c.Size+perFile) + int64(c.Large)*c.LargeSize,
		DiskRound:     int64(c.Time.Seconds()*mixedPuts) * (c.Size + perFile),
		Stays:         c.stay(),
	}
}

// mixedPuts is how many items a second a sample stores at most, to know how much disk that takes.
const mixedPuts = 1500

// stay tells whether what was stored stays, as it does for Puts, until there is too much of it.
func (c Mixed) stay() bool { return c.Time <= 2*time.Minute }

func (c Mixed) Prepare(ctx context.Context, s *Store) error {
	all, err := s.fillAll(ctx, c.Size, getSeries, c.Items)
	if err == nil && s.Server.Info.Floor { // its list is a file of its own, for the next start
		err = s.Server.Seed(ctx, s.dir, all)
	}
	return err
}

func (c Mixed) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	all, err := s.names.of(ctx, s.Server.Hash, c.Size, getSeries, c.Items)
	if err != nil {
		return Sample{}, err
	}
	large, err := s.fillAll(ctx, c.LargeSize, largeSeries, c.Large)
	if err != nil {
		return Sample{}, err
	}
	algorithm, err := digest.Lookup(s.Server.Hash)
	if err != nil {
		return Sample{}, err
	}
	d, free := s.Connect(c.Connections)
	defer free()
	m := &mixture{c: c, driver: d, algorithm: algorithm, read: all, series: mixedSeries.of(round, c.Connections)}
	var t *Timeline
	x, err := s.measure(ctx, func() (operations []Operation, err error) {
		operations, t, err = m.run(ctx, s, large, round)
		return operations, err
	})
	x.Timeline, x.Seconds = t, m.took.Seconds()
	if err != nil || c.stay() {
		return x, err
	}
	return x, removeAll(ctx, d, m.left)
}

// mixture is one sample of Mixed.
type mixture struct {
	c         Mixed
	driver    Driver
	algorithm digest.Algorithm
	read      []string
	series    series
	left      []string      // what is still there of what was put
	number    atomic.Uint64 // of the last item of the series that was put
	took      time.Duration // without what ran beside for longer
}

// The parts of the load, in hundredths.
var mixtureParts = []struct {
	name string
	part int
}{{"get", 70}, {"put", 20}, {"delete", 5}, {"list", 5}}

func (m *mixture) run(ctx context.Context, s *Store, large []string, round int) ([]Operation, *Timeline, error) {
	c := newClock(min(time.Second, max(time.Millisecond, m.c.Time/20)), time.Now)
	var beside, group sync.WaitGroup
	ctx, end := context.WithCancel(ctx)
	defer end()
	beside.Go(func() { m.beside(ctx, s, c, large) })
	workers := make([]mixtureWorker, m.c.Connections)
	for w := range workers {
		group.Go(func() { workers[w].run(ctx, m, c, uint64(round)<<8+uint64(w)) })
	}
	group.Wait()
	m.took = time.Since(c.start)
	t := c.timeline()
	err := ctx.Err()
	beside.Wait() // what it does is bounded, and the next sample is not to have it beside
	t.Beside = c.spans()
	operations := make([]Operation, len(mixtureParts))
	for i, p := range mixtureParts {
		var parts []Operation
		for _, w := range workers {
			parts = append(parts, w.operations[i])
		}
		operations[i] = merge(p.name, parts)
	}
	for _, w := range workers {
		m.left = append(m.left, w.stored...)
	}
	return operations, t, err
}

// mixtureWorker is one connection of the load.
type mixtureWorker struct {
	operations [4]Operation // as mixtureParts
	stored     []string
	body       []byte
}

func (w *mixtureWorker) run(ctx context.Context, m *mixture, c *clock, seed uint64) {
	w.body = newBody(m.c.Size)
	random := rand.New(rand.NewPCG(seed, 1))
	for first := true; ctx.Err() == nil && (first || time.Since(c.start) < m.c.Time); first = false {
		i, n := 0, random.IntN(100)
		for n >= mixtureParts[i].part {
			n -= mixtureParts[i].part
			i++
		}
		if mixtureParts[i].name == "delete" && len(w.stored) == 0 {
			continue
		}
		begin := time.Now()
		did, err := w.send(ctx, m, mixtureParts[i].name, random)
		w.operations[i].add(time.Since(begin), did, err)
		c.tick()
	}
}

// send makes one request.
func (w *mixtureWorker) send(ctx context.Context, m *mixture, what string, random *rand.Rand) (done, error) {
	switch what {
	case "get":
		n, err := m.driver.Get(ctx, m.read[random.IntN(len(m.read))], 0, 0, nil)
		if err == nil && n != m.c.Size {
			err = fmt.Errorf("get: %d bytes, want %d", n, m.c.Size)
		}
		return done{1, n}, err
	case "put":
		name := nameOf(m.algorithm, w.body, uint64(m.series)+m.number.Add(1))
		err := m.driver.Put(ctx, name, w.body)
		if err == nil {
			w.stored = append(w.stored, name)
		}
		return done{1, m.c.Size}, err
	case "delete":
		i := random.IntN(len(w.stored))
		name := w.stored[i]
		w.stored = slices.Delete(w.stored, i, i+1)
		return done{items: 1}, m.driver.Delete(ctx, name)
	default:
		_, err := m.driver.ListPart(ctx, m.read[random.IntN(len(m.read))][:2])
		return done{items: 1}, err // the figures are of requests
	}
}

// beside does what runs beside the load, until that is over.
func (m *mixture) beside(ctx context.Context, s *Store, c *clock, large []string) {
	wait := func(part float64) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Until(c.start.Add(time.Duration(part * float64(m.c.Time))))):
			return true
		}
	}
	if wait(0.1) && s.Server.Scrub != nil {
		client := s.client(1)
		begin := time.Now()
		err := s.Server.Scrub(ctx, client)
		c.ran("scrub", begin, time.Now(), err)
		client.Close()
	}
	if wait(0.5) {
		begin := time.Now()
		d, free := s.Connect(1)
		var err error
		for i := 0; i < len(large) && err == nil; i++ {
			err = d.Delete(ctx, large[i])
		}
		free()
		c.ran("delete large items", begin, time.Now(), err)
	}
	if wait(1) && s.Server.Snapshots != nil {
		found, err := s.Server.Snapshots(s.dir)
		if err != nil {
			c.ran("snapshot", time.Now(), time.Now(), err)
		}
		for _, x := range found {
			if x.End.After(c.start) {
				c.ran("snapshot", x.Begin, x.End, nil)
			}
		}
	}
}
