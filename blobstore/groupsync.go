package blobstore

import "sync"

// groupSync shares one costly sync among all who need it at the same time. A caller of
// wait gets the result of a sync that began after its call, and so covers what it did
// before. At most one sync runs and one batch of callers waits for the next.
type groupSync struct {
	sync func() error
	turn chan struct{} // holds a token over each run of sync

	mu   sync.Mutex // held for a look at next only
	next *syncBatch // guarded by mu; those whose sync has not begun; nil: nobody
}

type syncBatch struct {
	done chan struct{} // closed when err is set
	err  error
}

func newGroupSync(sync func() error) *groupSync {
	return &groupSync{sync: sync, turn: make(chan struct{}, 1)}
}

func (g *groupSync) wait() error {
	g.mu.Lock()
	batch := g.next
	first := batch == nil
	if first {
		batch = &syncBatch{done: make(chan struct{})}
		g.next = batch
	}
	g.mu.Unlock()
	if !first {
		<-batch.done
		return batch.err
	}
	// The first of a batch syncs for all that join until the sync before it is over.
	g.turn <- struct{}{}
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	batch.err = g.sync()
	<-g.turn
	close(batch.done)
	return batch.err
}
