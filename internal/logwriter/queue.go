package logwriter

import (
	"context"
	"sync"
)

// Queue writes values, in their order, behind those who add them: from a goroutine of its own, which runs while there are any. What does not fit, or
// cannot be written, is lost and counted. Safe for concurrent use.
type Queue[T any] struct {
	o Options[T]

	mu      sync.Mutex // held over a change of what follows
	waiting []T
	held    int // sizes of waiting, and of what is being written
	lost    int
	ended   chan struct{} // closed when all is written; nil: no goroutine runs
}

// Options of a Queue. Write and Most are required.
type Options[T any] struct {
	Write func(T) error
	Most  int         // of the sizes of all that waits
	Size  func(T) int // nil: each has 1
	Lost  func(n int) // called when values are written again after n were lost; it may add; nil: nobody is told
}

// NewQueue returns an empty queue.
func NewQueue[T any](o Options[T]) *Queue[T] {
	if o.Size == nil {
		o.Size = func(T) int { return 1 }
	}
	return &Queue[T]{o: o}
}

// Add queues a value, or counts it as lost. It never waits.
func (q *Queue[T]) Add(v T) {
	size := q.o.Size(v)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held+size > q.o.Most {
		q.lost++
		return
	}
	q.waiting = append(q.waiting, v)
	q.held += size
	if q.ended == nil {
		q.ended = make(chan struct{})
		go q.run()
	}
}

// run writes until nothing waits.
func (q *Queue[T]) run() {
	for {
		q.mu.Lock()
		values := q.waiting
		if q.waiting = nil; len(values) == 0 {
			close(q.ended)
			q.ended = nil
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for _, v := range values {
			q.written(q.o.Size(v), q.o.Write(v))
		}
	}
}

// written counts a value that was written, or could not be.
func (q *Queue[T]) written(size int, err error) {
	q.mu.Lock()
	q.held -= size
	lost := 0
	if err != nil {
		q.lost++
	} else {
		lost, q.lost = q.lost, 0
	}
	q.mu.Unlock()
	if lost > 0 && q.o.Lost != nil {
		q.o.Lost(lost)
	}
}

// Flush returns when all is written that was added before, or ctx ends.
func (q *Queue[T]) Flush(ctx context.Context) error {
	q.mu.Lock()
	ended := q.ended
	q.mu.Unlock()
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
