package api

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxLines is how many lines of the request log may wait, besides those that are being written.
const maxLines = 4096

// logQueue writes the lines of the request log behind the replies, in the order of the requests' ends: a log that is read slowly, or not
// at all for a while, holds no client. A goroutine writes while there are lines, and ends when there are none. What does not fit is lost,
// and the log says how much. It is safe for concurrent use.
type logQueue struct {
	handler slog.Handler

	mu      sync.Mutex // held over a change of what follows
	waiting []slog.Record
	lost    int           // lines since the last that was taken
	ended   chan struct{} // closed when the goroutine has written all; nil: none runs
}

// add queues a line. It does not wait.
func (q *logQueue) add(line slog.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == maxLines {
		q.lost++
		return
	}
	q.waiting = append(q.waiting, line)
	if q.ended == nil {
		q.ended = make(chan struct{})
		go q.write()
	}
}

// write writes lines until there are none.
func (q *logQueue) write() {
	var lines []slog.Record
	for lost := 0; ; {
		if lines, lost = q.take(lines); len(lines) == 0 {
			return
		}
		for _, line := range lines {
			_ = q.handler.Handle(context.Background(), line) // nothing is left to tell it to
		}
		if lost > 0 {
			line := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the request log were lost, because the log is written too slowly", 0)
			line.AddAttrs(slog.Int("lines", lost))
			_ = q.handler.Handle(context.Background(), line)
		}
	}
}

// take returns what waits, in exchange for a slice that is used again. When there is nothing the caller must end.
func (q *logQueue) take(written []slog.Record) (lines []slog.Record, lost int) {
	clear(written)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		close(q.ended)
		q.ended = nil
		return nil, 0
	}
	lines, lost = q.waiting, q.lost
	q.waiting, q.lost = written[:0], 0
	return lines, lost
}

// flush returns when all lines are written that were added before, or ctx ends.
func (q *logQueue) flush(ctx context.Context) error {
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

// FlushLog waits until the lines of all requests that have ended are in the log. Lines are written behind the replies, so it is for
// the end of the process.
func (s *Server) FlushLog(ctx context.Context) error { return s.lines.flush(ctx) }
