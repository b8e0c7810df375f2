// Package logwriter writes a log behind those who log: a reader of the log that stalls, or goes away, holds up nobody.
package logwriter

import (
	"context"
	"io"
	"sync"
)

// maxBytes is how much of the log may wait, in bytes.
const maxBytes = 4 << 20

// Writer queues lines and writes them in their order from a goroutine of its own, which runs while there are any. What does not
// fit into 4 MiB, or cannot be written, is lost and counted. Safe for concurrent use.
type Writer struct {
	to   io.Writer
	told func(lost int)

	mu      sync.Mutex // held over a change of what follows
	waiting [][]byte
	bytes   int // of waiting, and of what is being written
	lost    int
	ended   chan struct{} // closed when all is written; nil: no goroutine runs
}

// New returns a writer to w. lost, which may be nil, is called when lines flow again after some were lost, with their number; it may log.
func New(w io.Writer, lost func(lines int)) *Writer { return &Writer{to: w, told: lost} }

// Write queues one line. It never waits, and never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes+len(line) > maxBytes {
		w.lost++
		return len(line), nil
	}
	w.waiting = append(w.waiting, append([]byte(nil), line...))
	w.bytes += len(line)
	if w.ended == nil {
		w.ended = make(chan struct{})
		go w.run()
	}
	return len(line), nil
}

// run writes until nothing waits.
func (w *Writer) run() {
	for {
		w.mu.Lock()
		lines := w.waiting
		if w.waiting = nil; len(lines) == 0 {
			close(w.ended)
			w.ended = nil
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		for _, line := range lines {
			_, err := w.to.Write(line)
			w.written(len(line), err)
		}
	}
}

// written counts a line that was written, or could not be.
func (w *Writer) written(bytes int, err error) {
	w.mu.Lock()
	w.bytes -= bytes
	lost := 0
	if err != nil {
		w.lost++
	} else {
		lost, w.lost = w.lost, 0
	}
	w.mu.Unlock()
	if lost > 0 && w.told != nil {
		w.told(lost)
	}
}

// Flush returns when all lines are written that were queued before, or ctx ends.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	ended := w.ended
	w.mu.Unlock()
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
