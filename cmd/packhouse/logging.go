package main

import (
	"context"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"packhouse/internal/logwriter"
	"packhouse/internal/terminal"

	"github.com/lmittmann/tint"
)

// newLogger writes JSON lines or, for people, coloured ones (if w is a terminal).
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	return loggerTo(w, format, level, terminal.Is(w))
}

func loggerTo(w io.Writer, format string, level slog.Leveler, colour bool) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: level, TimeFormat: "2006-01-02 15:04:05.000", NoColor: !colour,
	}))
}

// flushTime is how long the end of the process waits for its last lines.
const flushTime = time.Second

// queuedLogger is newLogger for a process that serves clients: its lines are written behind those who log, so that a reader of
// stderr that stalls or goes away stops neither requests nor the server. flush waits a second at most for lines that are not
// written yet.
func queuedLogger(w io.Writer, format string, level slog.Leveler) (log *slog.Logger, flush func()) {
	signal.Ignore(syscall.SIGPIPE) // else the first line after its reader has gone ends the process
	queue := logwriter.New(w, func(lines int) {
		log.Warn("lines of the log were lost: it was read too slowly, or not at all", "lines", lines)
	})
	log = loggerTo(queue, format, level, terminal.Is(w))
	return log, func() { flushLog(queue) }
}

// flushLog waits for the lines of a log, for a second at most.
func flushLog(queue *logwriter.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	_ = queue.Flush(ctx) // whoever reads the log does not read it
}

// setLevel sets a level by its name in the configuration.
func setLevel(v *slog.LevelVar, name string) {
	if err := v.UnmarshalText([]byte(strings.ToUpper(name))); err != nil {
		v.Set(slog.LevelInfo) // names are checked where they are read
	}
}
