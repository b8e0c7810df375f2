package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"packhouse/internal/logwriter"
)

// The audit log has one line for each request that was to remove or replace something, or changed who may do so, and for each
// write that was refused. Its principal is who logged in: nothing is taken from what a client says of itself. Like the lines of
// the request log, its lines are written behind the replies.

// changes says what an operation is to the audit log. Others are there only when they were refused.
var changes = map[string]string{
	"delete": "delete", "batch-delete": "delete", "destroy": "delete", "purge": "delete", "abandon": "delete", "empty-trash": "delete", "empty-kept": "delete",
	"move":   "rename",
	"defrag": "plan", "repack": "plan", "compact": "plan", "cancel-job": "plan",
	"break-lock":   "lock-break",
	"create-token": "token", "revoke-token": "token",
	"test-alerts": "setting", "set-quota": "setting", "lift-guard": "setting", "salvage": "setting", "accept-loss": "setting",
	"restore": "restore", "restore-repository": "restore", "rollback": "restore",
}

// refusals are the statuses of a write that its sender was not allowed to make, or that did not fit.
var refusals = map[int]bool{
	http.StatusUnauthorized: true, http.StatusForbidden: true, http.StatusRequestEntityTooLarge: true, http.StatusTooManyRequests: true,
	http.StatusInsufficientStorage: true,
}

// maxAuditLines is how many lines may wait: many more than of the request log, as they are fewer and matter more.
const maxAuditLines = 1 << 15

// auditKeys is how many keys a line has of a request that is about many.
const auditKeys = 100

// audit queues lines of the audit log.
type audit struct {
	lines *logwriter.Queue[slog.Record]
	lost  prometheus.Counter
}

// newAudit returns the audit log that handler writes; nil without one.
func newAudit(handler slog.Handler, log *slog.Logger) *audit {
	if handler == nil {
		return nil
	}
	lost := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "packhouse_audit_lines_lost_total", Help: "Lines of the audit log that were lost, as they could not be written, or not fast enough. Counted when lines can be written again.",
	})
	return &audit{lost: lost, lines: newQueue(handler, maxAuditLines, "lines of the audit log were lost", func(lines int) {
		lost.Add(float64(lines))
		log.Error("lines of the audit log were lost, because it could not be written, or not fast enough", "lines", lines)
	})}
}

// request adds a request that has ended, if it belongs here.
func (a *audit) request(r *http.Request, x *requestState, status int, dialect, operation string) {
	if a == nil || (readOnly(r) || x.log.Reads) && !x.refusedLogin {
		return
	}
	what, outcome := changes[operation], "done"
	if x.log.Replaced {
		what = "overwrite"
	}
	switch {
	case x.refusedLogin: // by who has a certificate of an authority: no stranger can fill the log with this
		what, outcome = "login", "refused"
	case refusals[status]:
		what, outcome = cmp.Or(what, "write"), "refused"
	case what == "", status == http.StatusNotFound:
		return // nothing was removed or replaced
	case status >= 400, x.out.cut != nil:
		outcome = "failed"
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "audit", 0)
	line.AddAttrs(
		slog.String("what", what), slog.String("outcome", outcome),
		slog.String("principal", x.principal.Name), slog.Bool("local", x.trusted), slog.String("remote", x.address),
		slog.String("repository", shown(cmp.Or(x.log.Repository, x.name))), slog.String("key", shown(x.log.Key)),
		slog.String("dialect", dialect), slog.String("operation", operation), slog.Int("status", status), slog.String("request", x.id.String()),
	)
	if n := len(x.log.Keys); n > 0 {
		keys := make([]string, min(n, auditKeys))
		for i := range keys {
			keys[i] = shown(x.log.Keys[i])
		}
		line.AddAttrs(slog.Int("items", n), slog.Any("keys", keys))
	}
	if x.log.Reason != "" {
		line.AddAttrs(slog.String("reason", shown(x.log.Reason)))
	}
	a.lines.Add(line)
}

// AuditSetting adds a change of settings that no request has made. how says how it was made.
func (s *Server) AuditSetting(how string) {
	if s.audit == nil {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "audit", 0)
	line.AddAttrs(slog.String("what", "setting"), slog.String("outcome", "done"), slog.Bool("local", true), slog.String("operation", how))
	s.audit.lines.Add(line)
}

// flush waits until the lines of all requests that have ended are written.
func (a *audit) flush(ctx context.Context) error {
	if a == nil {
		return nil
	}
	return a.lines.Flush(ctx)
}
