package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap/zapcore"
)

// core has certmagic's lines written to our log. Its warnings and errors keep their level; what it says at every step is for debugging: what people
// want to know of it is logged by Manager.
type core struct {
	log *slog.Logger
}

var _ zapcore.Core = core{}

func levelOf(level zapcore.Level) slog.Level {
	switch {
	case level >= zapcore.ErrorLevel:
		return slog.LevelError
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.Core.
func (c core) Enabled(level zapcore.Level) bool {
	return c.log.Enabled(context.Background(), levelOf(level))
}

// With implements zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(attributes(fields)...)}
}

// Check implements zapcore.Core.
func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), levelOf(entry.Level), "ACME: "+entry.Message, attributes(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (core) Sync() error { return nil }

// attributes translates fields, in their order. Beside an error's text there is no verbose form of it.
func attributes(fields []zapcore.Field) []any {
	var attrs []any
	for _, field := range fields {
		values := zapcore.NewMapObjectEncoder()
		field.AddTo(values)
		if value, ok := values.Fields[field.Key]; ok {
			attrs = append(attrs, attribute(field.Key, value))
			continue
		}
		attrs = append(attrs, members(values.Fields)...)
	}
	return attrs
}

// attribute makes a group of an object, such as the authority's description of what is wrong, and seconds of a duration.
func attribute(key string, value any) slog.Attr {
	switch value := value.(type) {
	case map[string]any:
		return slog.Group(key, members(value)...)
	case time.Duration:
		return slog.Float64(key+"_seconds", value.Seconds())
	}
	return slog.Any(key, value)
}

// members are the attributes of an object by name, without those that say nothing.
func members(object map[string]any) []any {
	var attrs []any
	for _, key := range slices.Sorted(maps.Keys(object)) {
		switch value := object[key].(type) {
		case nil:
		case string:
			if value != "" {
				attrs = append(attrs, slog.String(key, value))
			}
		case []any:
			if len(value) > 0 {
				attrs = append(attrs, slog.Any(key, value))
			}
		default:
			attrs = append(attrs, attribute(key, value))
		}
	}
	return attrs
}
