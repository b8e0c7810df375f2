package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"packhouse/api"
	"packhouse/repo"
)

// RollbackRequest is the body of a rollback.
type RollbackRequest struct {
	To        time.Time `json:"to"`
	Principal *string   `json:"principal,omitempty"` // only what this one changed; absent: all
	Expect    uint64    `json:"expect,omitempty"`    // "last" of the plan that was looked at: 409 if more has changed since
	Partial   bool      `json:"partial,omitempty"`   // also if some items cannot be brought back
	DryRun    bool      `json:"dry_run,omitempty"`
}

// Amount is items and bytes.
type Amount struct {
	Items int64 `json:"items"`
	Bytes int64 `json:"bytes"`
}

// Lost is an item that cannot be brought back.
type Lost struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

// RollbackPlan is what a rollback does, or did.
type RollbackPlan struct {
	To       time.Time `json:"to"`
	Last     uint64    `json:"last"`    // the last change that counts
	Changes  int64     `json:"changes"` // that are undone
	Returns  Amount    `json:"returns"`
	Replaces Amount    `json:"replaces"`
	Removes  Amount    `json:"removes"`
	Lost     int64     `json:"lost"`
	LostKeys []Lost    `json:"lost_keys,omitempty"` // the first hundred
	// Before and After are the moments next to To of which all can be brought back, if not all of To can.
	Before *time.Time `json:"before,omitempty"`
	After  *time.Time `json:"after,omitempty"`
}

// RollbackEvent is a line of the answer to a rollback: progress, or the plan when all is done.
type RollbackEvent struct {
	Done  int64         `json:"done,omitempty"`
	Total int64         `json:"total,omitempty"`
	Plan  *RollbackPlan `json:"plan,omitempty"`
}

func describeRollback(p repo.RollbackPlan) RollbackPlan {
	d := RollbackPlan{
		To: p.To.UTC(), Last: p.Last, Changes: p.Changes, Returns: Amount(p.Returns), Replaces: Amount(p.Replaces), Removes: Amount(p.Removes), Lost: p.Lost,
	}
	for _, lost := range p.LostKeys {
		d.LostKeys = append(d.LostKeys, Lost(lost))
	}
	for _, moment := range []struct {
		at   time.Time
		text **time.Time
	}{{p.Before, &d.Before}, {p.After, &d.After}} {
		if at := moment.at.UTC(); !moment.at.IsZero() {
			*moment.text = &at
		}
	}
	return d
}

// rollBack makes the items what they were at a moment. The answer begins with the first changes; before that a refusal has its own status.
func (q *request) rollBack(string) error {
	var body RollbackRequest
	if err := q.document(&body); err != nil {
		return err
	}
	if body.To.IsZero() {
		return invalid(`"to" is missing: a time such as 2026-11-25T18:00:00Z`)
	}
	req := repo.RollbackRequest{To: body.To, Principal: body.Principal, Expect: body.Expect, Partial: body.Partial}
	if body.DryRun {
		q.log.Reads = true
		plan, err := q.repo.PlanRollback(q.Context(), req)
		if err != nil {
			return err
		}
		return q.reply(http.StatusOK, describeRollback(plan))
	}
	begun := false
	encoder := json.NewEncoder(q.w)
	say := func(event RollbackEvent) error {
		if !begun {
			begun = true
			api.Finish(q.w, q.Request)
			q.w.Header().Set("Content-Type", "application/x-ndjson")
			q.w.WriteHeader(http.StatusOK)
		}
		if err := encoder.Encode(event); err != nil {
			return err
		}
		return http.NewResponseController(q.w).Flush()
	}
	plan, err := q.repo.Rollback(q.Context(), req, q.principal, func(done, total int64) {
		_ = say(RollbackEvent{Done: done, Total: total}) // it goes on without a listener
	})
	done := describeRollback(plan)
	switch {
	case err == nil:
		_ = say(RollbackEvent{Plan: &done}) // all is done, also if nobody listens any more, and the logs say so
		return nil
	case !begun:
		return err
	}
	api.Cut(q.Request, err)
	return nil
}
