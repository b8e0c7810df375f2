package vger

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"packhouse/api"
	"packhouse/compact"
	"packhouse/repo"
)

// repack answers POST ?repack. The engine makes all new packs and records the result in one transaction, joins a plan
// that is running and answers a repeated one from its record, so that the client may lose its connection at
// any moment. The sources stay until the client has stored an index that shows that it has this answer.
func (x *request) repack() error {
	x.log("repack")
	p := &repackPlan{limits: x.d.o.Limits}
	a, algorithm, err := x.receive("repack plan", p)
	if err != nil {
		return err
	}
	if x.d.o.Engine == nil {
		return badRequest("repack is not available on this server")
	}
	l := x.d.o.Limits
	plan := x.d.o.Engine.NewPlan(compact.Limits{
		Operations: l.Operations, Ranges: l.KeepBlobs, Output: l.Output, PlanBytes: l.AdminBody,
	})
	defer plan.Close()
	if err := p.fill(plan, compact.Naming{Algorithm: algorithm, Prefix: "packs", Levels: 1}); err != nil {
		return repackError(err, p.output)
	}
	return x.runRepack(a, p, plan)
}

// runRepack carries the plan out and answers with what became of each operation, in order.
func (x *request) runRepack(a *repo.Access, p *repackPlan, plan *compact.Plan) error {
	out := x.slow()
	defer out.settle()
	operations := p.reader()
	begin := func() {
		out.settle()
		out.text = append(out.text, `{"completed":[`...)
	}
	compaction, err := x.d.o.Engine.RunOpen(x.r.Context(), a, plan, func(i int, o compact.Outcome) error {
		if i == 0 {
			begin()
		} else {
			out.text = append(out.text, ',')
		}
		operation, _ := operations.next(nil)
		out.text = appendOutcome(out.text, operation, o)
		return out.flush()
	})
	if err != nil {
		return out.fail(repackError(err, p.output))
	}
	if p.count == 0 {
		begin()
	}
	out.text = append(out.text, "]}"...)
	if compaction == nil {
		out.end()
		return nil
	}
	compaction.Answering()
	if err := out.endSent(); err != nil {
		compaction.Unanswered()
		x.abort(err)
	}
	return nil
}

// appendOutcome appends one entry of "completed". source_pack is echoed as it was written.
func appendOutcome(b []byte, operation repackOperation, o compact.Outcome) []byte {
	b = api.AppendString(append(b, `{"source_pack":`...), operation.source)
	b = append(b, `,"new_pack":`...)
	if o.Key == "" {
		b = append(b, "null"...)
	} else {
		b = api.AppendString(b, o.Key)
	}
	b = append(b, `,"new_offsets":[`...)
	for i, offset := range o.Offsets {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, offset, 10)
	}
	b = append(b, `],"deleted":`...)
	b = strconv.AppendBool(b, len(o.Deleted) > 0 && o.Deleted[0])
	return append(b, '}')
}

// conflict refuses a plan that contradicts what is stored: a retry would not cure it.
func conflict(operation int, text string) error {
	return status(http.StatusConflict, "repack failed at operation %d: %s", operation, text)
}

// repackError gives an error of the engine its answer. What is permanent is 4xx.
func repackError(err error, output int64) error {
	var quota *repo.QuotaError
	var pending *repo.PendingError
	var short *repo.ShortError
	var trash *repo.TrashError
	var charges *repo.ChargesError
	var history *repo.HistoryError
	var total *repo.TotalError
	// None of them is a 5xx: clients would send the plan five times more.
	switch {
	case errors.As(err, &pending):
		return status(http.StatusRequestEntityTooLarge, "%v", pending)
	case errors.As(err, &short):
		return status(http.StatusRequestEntityTooLarge, "%v", short)
	case errors.As(err, &trash):
		return status(http.StatusRequestEntityTooLarge, "%v", trash)
	case errors.As(err, &total):
		return status(http.StatusRequestEntityTooLarge, "%v", total)
	case errors.As(err, &charges):
		return status(http.StatusRequestEntityTooLarge, "%v", charges)
	case errors.As(err, &history):
		return status(http.StatusRequestEntityTooLarge, "%v", history)
	case errors.As(err, &quota):
		return status(http.StatusRequestEntityTooLarge, "quota exceeded: used %d, limit %d, repack output %d: %d bytes short; delete snapshots or raise the quota",
			quota.Used, quota.Limit, output, quota.Wanted-quota.Limit)
	}
	var wrong *compact.PlanError
	if !errors.As(err, &wrong) {
		return err
	}
	if errors.Is(wrong.Err, repo.ErrDenied) && !errors.As(wrong.Err, new(*repo.DeniedError)) {
		// Not what the token lacks, but what an administrator did: cancel the job.
		return status(http.StatusForbidden, "repack failed: %v", wrong.Err)
	}
	for _, permanent := range []struct {
		err  error
		text string
	}{
		{repo.ErrNotFound, "no such pack"},
		{repo.ErrIsDir, "no such pack"},
		{repo.ErrRange, "blob beyond the end of the pack"},
		{repo.ErrCorrupt, "the pack's stored bytes are damaged"},
		{repo.ErrInvalid, "no blob of that length begins there"},
		{repo.ErrConflict, "the pack was changed by another request"},
		{repo.ErrTooLarge, "plan is too large"},
	} {
		if errors.Is(wrong.Err, permanent.err) {
			return conflict(max(wrong.Operation, 0), describePlanError(wrong, permanent.text))
		}
	}
	return err
}

func describePlanError(e *compact.PlanError, text string) string {
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	switch {
	case e.Key == "":
		return text
	case e.Range < 0:
		return fmt.Sprintf("%s: %s", e.Key, text)
	}
	return fmt.Sprintf("%s, blob %d at offset %d: %s", e.Key, e.Range, e.Offset, text)
}
