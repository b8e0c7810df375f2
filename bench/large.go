package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Large sends items of one size up and down over one connection. With one item of 512 MiB it shows whether
// memory grows with the size of an item.
type Large struct {
	Size int64
	N    int // items
}

// Run carries out the workload on a server that was just started, so that its peak memory is that of this
// workload.
func (c Large) Run(ctx context.Context, s *Server) (put, get Result, err error) {
	client := s.Client(1)
	defer client.Close()
	name := "/size=" + bytesText(c.Size)
	measure := func(what string, op func(i int) error) (Result, error) {
		start := time.Now()
		for i := range c.N {
			if err := op(i); err != nil {
				return Result{}, err
			}
		}
		rate := float64(c.Size) * float64(c.N) / 1e6 / time.Since(start).Seconds()
		peak, err := memory(s)
		return Result{Workload: what + name, Server: s.Program.Name, N: c.N, Metrics: append([]Metric{{rate, "MB/s"}}, peak...)}, err
	}
	put, err = measure("PutLarge", func(i int) error {
		return client.Put(ctx, fmt.Sprintf("large/%d-%d", c.Size, i), newNoise(uint64(i), c.Size), c.Size)
	})
	if err != nil {
		return put, get, err
	}
	get, err = measure("GetLarge", func(i int) error {
		n, err := client.Get(ctx, fmt.Sprintf("large/%d-%d", c.Size, i), io.Discard)
		if err == nil && n != c.Size {
			err = fmt.Errorf("got %d bytes, want %d", n, c.Size)
		}
		return err
	})
	return put, get, err
}
