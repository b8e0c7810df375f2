package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"packhouse/bench/compaction"
	"packhouse/internal/bytesize"
	"packhouse/repo/digest"
)

// Compactions compacts packs of which about half is unused: by the server if the protocol permits it, else as a client does, which
// reads the used parts, stores them and deletes the packs. `packhouse bench compact` measures only the ways of the engine.
type Compactions struct {
	Bytes     int64 // of all packs
	PackBytes int64 // of one
	OwnOnly   bool
}

func (c Compactions) About() About {
	return About{
		Name: "compact", Kind: "compact", Store: "compact", Title: fmt.Sprintf("compaction of packs of %s, of which half is dead; figures are of live bytes", bytesize.Text(c.PackBytes)),
		Size: c.PackBytes, Connections: 1, Measure: Throughput, Cache: cold, OwnOnly: c.OwnOnly,
		Floor: "reads the live ranges and writes them to a new file, one after the other, with SHA-256, fdatasync and sync of the directory",
		// The new packs, and the old ones, which Packhouse keeps for a time.
		DiskRound: 2 * c.Bytes, Stays: true,
	}
}

// workload is what `bench compact` compacts, other packs in each round.
func (c Compactions) workload(round int) compaction.Workload {
	w := compaction.Default("", c.Bytes)
	w.PackBytes, w.Seed = c.PackBytes, uint64(round)
	w.MaxBlob = min(w.MaxBlob, c.PackBytes/4)
	return w
}

func (c Compactions) Prepare(ctx context.Context, s *Store) error { return nil }

func (c Compactions) Sample(ctx context.Context, s *Store, round int) (Sample, error) {
	d, free := s.Connect(1)
	defer free()
	packs, did, err := c.store(ctx, s.Server.Hash, d, round)
	if err != nil {
		return Sample{}, err
	}
	if err := s.dropCache(); err != nil {
		return Sample{}, err
	}
	compact := func(ctx context.Context) error { return compactByClient(ctx, d, s.Server.Hash, packs) }
	if x, ok := d.(Compactor); ok {
		compact = func(ctx context.Context) error { return x.Compact(ctx, packs) }
	}
	return s.measure(ctx, func() ([]Operation, error) {
		o, _, err := load{connections: 1, to: 1}.run(ctx, "compact", func(ctx context.Context, _, _ int) (done, error) {
			return did, compact(ctx)
		})
		return []Operation{o}, err
	})
}

// store makes the packs of a round and stores them. did counts what lives: blobs and their bytes.
func (c Compactions) store(ctx context.Context, hash string, d Driver, round int) (packs []Pack, did done, err error) {
	algorithm, err := digest.Lookup(hash)
	if err != nil {
		return nil, did, err
	}
	err = c.workload(round).Packs(func(body []byte, keep [][2]int64) error {
		h := algorithm.New()
		h.Write(body)
		p := Pack{Name: fmt.Sprintf("%x", h.Sum(nil))}
		for _, k := range keep {
			p.Keep = append(p.Keep, Range{k[0], k[1]})
			did.items++
			did.bytes += k[1]
		}
		packs = append(packs, p)
		return patiently(ctx, func() error { return fill(ctx, d, p.Name, body) })
	})
	return packs, did, err
}

// compactByClient reads each range, stores them as one new item, and deletes the packs.
func compactByClient(ctx context.Context, d Driver, hash string, packs []Pack) error {
	algorithm, err := digest.Lookup(hash)
	if err != nil {
		return err
	}
	for _, p := range packs {
		var body bytes.Buffer
		for _, k := range p.Keep {
			n, err := d.Get(ctx, p.Name, k.Offset, k.Length, &body)
			if err == nil && n != k.Length {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return fmt.Errorf("read %d of %d bytes at %d of %s: %w", n, k.Length, k.Offset, p.Name, err)
			}
		}
		h := algorithm.New()
		h.Write(body.Bytes())
		if err := d.Put(ctx, fmt.Sprintf("%x", h.Sum(nil)), body.Bytes()); err != nil {
			return err
		}
	}
	for _, p := range packs {
		if err := d.Delete(ctx, p.Name); err != nil {
			return err
		}
	}
	return nil
}
