package ui

import (
	"fmt"
	"sync"
	"time"

	"packhouse/api/admin"
)

// rollbackRun is a rollback that a session has begun. The repository goes on with it whatever becomes of the session.
type rollbackRun struct {
	Name  string
	To    time.Time
	Begun time.Time

	done chan struct{} // closed at the end

	mu          sync.Mutex // held for a look at what follows
	made, total int64      // changes
	plan        admin.RollbackPlan
	err         error
}

// rollbackPage is what the page "rollback" shows.
type rollbackPage struct {
	To        string // as it was entered
	Principal string
	Plan      *admin.RollbackPlan // nil: not asked for yet
	Since     *time.Time
	Last      *rollbackRun // of this repository, by this session; nil: none
	Fields    []field
}

// moment reads a time as people and browsers write it, in UTC unless it says otherwise.
func moment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, wrongInput("%q is no moment; write one as 2026-11-30 14:05, in UTC", text)
}

// rollbackRequest is what a form asks for.
func (v *visit) rollbackRequest() (req admin.RollbackRequest, err error) {
	if req.To, err = moment(v.r.FormValue("to")); err != nil {
		return req, err
	}
	if principal := v.r.FormValue("principal"); principal != "" {
		req.Principal = &principal
	}
	req.Partial = v.r.FormValue("partial") != ""
	return req, nil
}

// rollbackPage asks for a moment, and tells what going back to it would do.
func (v *visit) rollbackPage() error {
	r, err := v.administrated()
	if err != nil {
		return err
	}
	p := rollbackPage{To: v.r.FormValue("to"), Principal: v.r.FormValue("principal"), Since: r.History}
	if run := v.lastRun(); run != nil && run.Name == v.name {
		p.Last = run
	}
	if p.To == "" {
		return v.page("rollback", "Roll back", p)
	}
	req, err := v.rollbackRequest()
	if err != nil {
		return err
	}
	plan, _, err := v.PlanRollback(v.r.Context(), v.name, req)
	if err != nil {
		return err
	}
	p.Plan = &plan
	p.Fields = []field{
		{"name", v.name}, {"to", req.To.Format(time.RFC3339Nano)}, {"principal", p.Principal}, {"expect", fmt.Sprint(plan.Last)},
	}
	return v.page("rollback", "Roll back", p)
}

func (v *visit) lastRun() *rollbackRun {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.s.run
}

// rollbackPatience is how long the answer to the form waits for the rollback; a longer one is told of by another page.
const rollbackPatience = 2 * time.Second

// rollback carries out the plan that the person has seen: if more has changed since, the API refuses.
func (v *visit) rollback() error {
	req, err := v.rollbackRequest()
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(v.r.PostFormValue("expect"), &req.Expect); err != nil || req.Expect == 0 {
		return wrongInput("the plan is missing; look at what will happen first")
	}
	run := &rollbackRun{Name: v.name, To: req.To, Begun: v.h.o.Now(), done: make(chan struct{})}
	// Of its own, as the browser may leave before it is done.
	c := v.h.client(v.h.senderOf(v.r, v.s.authorization))
	ctx := v.h.ctx
	v.h.running.Go(func() {
		defer close(run.done)
		plan, _, err := c.Rollback(ctx, run.Name, req, func(made, total int64) {
			run.mu.Lock()
			defer run.mu.Unlock()
			run.made, run.total = made, total
		})
		run.mu.Lock()
		defer run.mu.Unlock()
		run.plan, run.err = plan, err
	})
	v.s.mu.Lock()
	v.s.run = run
	v.s.mu.Unlock()
	patience := time.NewTimer(rollbackPatience)
	defer patience.Stop()
	select {
	case <-run.done:
		run.mu.Lock()
		defer run.mu.Unlock()
		if run.err != nil {
			return run.err
		}
	case <-patience.C:
	case <-v.r.Context().Done():
	}
	v.redirect(link("rollback/state", "name", v.name))
	return nil
}

// runView is a rollback as pages show it.
type runView struct {
	To, Begun   time.Time
	Ended       bool
	Made, Total int64
	Percent     int64
	Plan        admin.RollbackPlan
	Error       string
}

// rollbackState shows how far the last rollback of the session is.
func (v *visit) rollbackState() error {
	if _, err := v.repository(); err != nil && v.lastRun() == nil {
		return err // while it goes on, the repository answers no other request
	}
	run := v.lastRun()
	if run == nil || run.Name != v.name {
		return wrongInput("this session has not begun a rollback of this repository; the history shows what was changed")
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	p := runView{To: run.To, Begun: run.Begun, Made: run.made, Total: run.total, Percent: share(run.made, run.total), Plan: run.plan}
	select {
	case <-run.done:
		p.Ended = true
	default:
	}
	if run.err != nil {
		p.Error = sentence(run.err.Error())
	}
	return v.page("rollbackstate", "Rollback", p)
}
