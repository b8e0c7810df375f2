package main

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// newLogger writes JSON lines or, for people, coloured ones (if w is a terminal).
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: level, TimeFormat: "2006-01-02 15:04:05.000", NoColor: !isTerminal(w),
	}))
}

// isTerminal tells whether a person reads w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// setLevel sets a level by its name in the configuration.
func setLevel(v *slog.LevelVar, name string) {
	if err := v.UnmarshalText([]byte(strings.ToUpper(name))); err != nil {
		v.Set(slog.LevelInfo) // names are checked where they are read
	}
}
