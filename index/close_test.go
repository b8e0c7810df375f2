package index_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"packhouse/index"
)

// TestCloseDuringEverything: Close may come while anything else runs, and waits for what uses the file.
func TestCloseDuringEverything(t *testing.T) {
	for round := range 20 {
		path := newIndex(t)
		x := mustOpen(t, path, index.Options{SegmentSize: 64 << 10})
		for i := range 200 {
			apply(t, x, put(fmt.Sprint("before/", i), 1))
		}
		begin := make(chan struct{})
		var wg sync.WaitGroup
		during := func(what string, call func(n int) error) {
			wg.Go(func() {
				<-begin
				for n := 0; ; n++ {
					if err := call(n); errors.Is(err, index.ErrClosed) {
						return
					} else if err != nil {
						t.Errorf("round %d: %s: %v", round, what, err)
						return
					}
				}
			})
		}
		during("apply", func(n int) error { _, err := x.Apply(background, put(fmt.Sprint("during/", n), 1)); return err })
		during("list", func(int) error {
			return x.List(background, index.ListOptions{Recursive: true}, func(index.Entry) error { return nil })
		})
		during("checkpoint", func(int) error { return x.Checkpoint() })
		during("copy", func(int) error { _, err := x.WriteTo(io.Discard); return err })
		during("rewrite", func(int) error {
			if err := x.Rewrite(background); errors.Is(err, index.ErrClosed) {
				return err
			}
			return nil // readers may take too long
		})
		during("check", func(int) error { _, err := x.Check(background); return err })
		close(begin)
		for range round {
			x.LogStatus()
		}
		if _, err := x.Apply(background, put("last", 1)); err != nil {
			t.Error(err)
		}
		if err := x.Close(); err != nil {
			t.Errorf("round %d: close: %v", round, err)
		}
		wg.Wait()
		x = mustOpen(t, path, index.Options{})
		if _, err := x.Get("last"); err != nil {
			t.Error(err)
		}
		checkWhole(t, x)
		mustClose(t, x)
	}
}
