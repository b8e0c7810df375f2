package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"packhouse/internal/logwriter"
)

// maxLines is how many lines of the request log may wait.
const maxLines = 4096

// newLogQueue returns a queue of lines of the request log, which are written behind the replies, in the order of the requests'
// ends: a log that is read slowly, or not at all for a while, holds no client. What does not fit is lost, and the log says how
// much.
func newLogQueue(handler slog.Handler) *logwriter.Queue[slog.Record] {
	return newQueue(handler, maxLines, "lines of the request log were lost, because the log is written too slowly", nil)
}

// newQueue returns a queue of lines for handler, most of which may wait. When lines were lost, the log says so with the text
// lost, and told, unless it is nil, is called with their number.
func newQueue(handler slog.Handler, most int, lost string, told func(lines int)) *logwriter.Queue[slog.Record] {
	write := func(line slog.Record) error { return handler.Handle(context.Background(), line) }
	return logwriter.NewQueue(logwriter.Options[slog.Record]{
		Write: write, Most: most,
		Lost: func(lines int) {
			line := slog.NewRecord(time.Now(), slog.LevelWarn, lost, 0)
			line.AddAttrs(slog.Int("lines", lines))
			_ = write(line) // nothing is left to tell it to
			if told != nil {
				told(lines)
			}
		},
	})
}

// FlushLog waits until the lines of all requests that have ended are in the logs. Lines are written behind the replies, so it
// is for the end of the process.
func (s *Server) FlushLog(ctx context.Context) error {
	return errors.Join(s.lines.Flush(ctx), s.audit.flush(ctx))
}
