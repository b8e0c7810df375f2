package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Puts stores many small items over several connections, each waiting for its reply. It isolates what
// durability costs: a lone connection pays for every sync, many share them.
type Puts struct {
	Size        int
	Connections int
	N           int // items
}

func (c Puts) name() string {
	return fmt.Sprintf("Put/size=%s/connections=%d", bytesText(int64(c.Size)), c.Connections)
}

// Run carries out the workload on a server whose store exists.
func (c Puts) Run(ctx context.Context, s *Server) (Result, error) {
	client := s.Client(c.Connections)
	defer client.Close()
	took := make([]time.Duration, c.N)
	var next atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, c.Connections)
	start := time.Now()
	for range c.Connections {
		group.Go(func() {
			body := noise(uint64(c.Size), int64(c.Size))
			for {
				i := next.Add(1) - 1
				if i >= int64(c.N) {
					return
				}
				begin := time.Now()
				name := fmt.Sprintf("puts%d/%02x/%08d", c.Connections, i%256, i)
				if err := client.Put(ctx, name, bytes.NewReader(body), int64(c.Size)); err != nil {
					failures <- err
					return
				}
				took[i] = time.Since(begin)
			}
		})
	}
	group.Wait()
	elapsed := time.Since(start)
	select {
	case err := <-failures:
		return Result{}, err
	default:
	}
	return Result{Workload: c.name(), Server: s.Program.Name, N: c.N, Metrics: latencies(took, elapsed)}, nil
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%dMiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%dKiB", n>>10)
	default:
		return fmt.Sprintf("%dB", n)
	}
}
