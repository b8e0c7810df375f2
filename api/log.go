package api

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// requestIDs numbers the requests of one run of the server.
type requestIDs struct {
	run  string // differs between runs
	last *atomic.Uint64
}

func newRequestIDs() (requestIDs, error) {
	var run [4]byte
	if _, err := rand.Read(run[:]); err != nil {
		return requestIDs{}, fmt.Errorf("request numbers: %w", err)
	}
	return requestIDs{run: hex.EncodeToString(run[:]), last: new(atomic.Uint64)}, nil
}

func (ids requestIDs) next() requestID { return requestID{ids.run, ids.last.Add(1)} }

// requestID is the number of a request, and the run of the server that it belongs to.
type requestID struct {
	run    string
	number uint64
}

func (id requestID) String() string { return id.run + "-" + strconv.FormatUint(id.number, 10) }

// record counts a request and queues its one log line. The line has nothing secret: no header, no query, no body.
func (s *Server) record(r *http.Request, x *requestState, out *response, in *body, took time.Duration) {
	status := out.status
	if status == 0 {
		status = http.StatusOK
	}
	if x.log.gone {
		status = statusClientGone
	}
	var received int64
	if in != nil {
		received = in.received()
	}
	dialect := "server"
	if x.dialect != nil {
		dialect = x.dialect.Name()
	}
	operation := x.log.Operation
	if operation == "" {
		operation = "none" // refused before it was known
	}
	s.metrics.count(dialect, operation, status, took, received, out.n)
	s.audit.request(r, x, status, dialect, operation)
	s.logAccess(r, x, status, out.n)
	level := slog.LevelInfo
	switch {
	case status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusInsufficientStorage:
		level = slog.LevelError
	case out.cut != nil, status >= 500:
		level = slog.LevelWarn
	case operation == "health", operation == "metrics", operation == "ui" && status < 400, s.o.Quiet: // what a page asks the API for has its own lines
		level = slog.LevelDebug
	}
	if !s.o.Logger.Enabled(r.Context(), level) {
		return
	}
	line := slog.NewRecord(time.Now(), level, "request", 0)
	line.AddAttrs(
		slog.String("request", x.id.String()),
		slog.String("principal", x.principal.Name),
		slog.String("repository", shown(cmp.Or(x.log.Repository, x.name))),
		slog.String("dialect", dialect),
		slog.String("operation", operation),
		slog.String("method", shown(r.Method)),
		slog.String("key", shown(x.log.Key)),
		slog.Int("status", status),
		slog.Int64("in", received),
		slog.Int64("out", out.n),
		slog.Float64("duration_seconds", took.Seconds()),
		slog.String("remote", x.address),
	)
	if x.log.Reason != "" {
		line.AddAttrs(slog.String("reason", shown(x.log.Reason)))
	}
	if x.login != "" {
		line.AddAttrs(slog.String("login", x.login))
	}
	s.lines.Add(line)
}

// shown truncates text that a client has chosen to a length suitable for a line: a request can have a path of 64 KiB.
func shown(text string) string {
	const most = 1 << 10 // a key has no more
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
