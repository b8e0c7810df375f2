package main

import (
	"io"
	"log/slog"
	"strings"

	"packhouse/internal/terminal"

	"github.com/lmittmann/tint"
)

// newLogger writes JSON lines or, for people, coloured ones (if w is a terminal).
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: level, TimeFormat: "2006-01-02 15:04:05.000", NoColor: !terminal.Is(w),
	}))
}

// setLevel sets a level by its name in the configuration.
func setLevel(v *slog.LevelVar, name string) {
	if err := v.UnmarshalText([]byte(strings.ToUpper(name))); err != nil {
		v.Set(slog.LevelInfo) // names are checked where they are read
	}
}
