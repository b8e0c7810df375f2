package compaction_test

import (
	"context"
	"testing"

	"packhouse/bench/compaction"
)

// Every way works on a small workload, and its figures are there.
func TestCompactionWays(t *testing.T) {
	c := compaction.Default(t.TempDir(), 4<<20)
	c.PackBytes, c.MaxBlob = 1<<20, 128<<10
	prepared := int64(0)
	if err := c.Prepare(context.Background(), func(done int64) { prepared = done }); err != nil {
		t.Fatal(err)
	}
	if prepared < 4<<20 {
		t.Errorf("prepared: got %d bytes", prepared)
	}
	figures := make(map[string]compaction.Figures)
	for _, way := range compaction.Ways {
		f, err := c.Run(context.Background(), way)
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if f.In < prepared/4 || f.In > prepared*3/4 || f.Out <= f.In || f.Seconds <= 0 || compaction.Describe(way) == "" {
			t.Errorf("%s: got %+v", way, f)
		}
		figures[way] = f
	}
	if server, client := figures["server"].Network, figures["client"].Network; server*10 > client || client < 2*figures["client"].In {
		t.Errorf("bytes on the network: got %d with the server's help, %d without", server, client)
	}
}
