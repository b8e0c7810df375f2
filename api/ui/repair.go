package ui

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"packhouse/api/local"
	"packhouse/internal/bytesize"
	"packhouse/repo"
)

// checkRun is a check that a session has begun. It ends with the session, when it is stopped, and with the server.
type checkRun struct {
	Name   string
	Verify bool
	Begun  time.Time

	stop context.CancelFunc
	done chan struct{} // closed at the end

	mu       sync.Mutex       // held for a look at what follows
	last     local.CheckEvent // the totals so far
	problems []string         // the first problemsShown of them
	advice   []string
	err      error
}

// problemsShown is how many problems of a check are kept; adviceShown of what mends them.
const problemsShown, adviceShown = 200, 20

// note takes an event of the check.
func (c *checkRun) note(event local.CheckEvent) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = event
	if event.Problem != "" && len(c.problems) < problemsShown {
		c.problems = append(c.problems, short(400, event.Problem))
	}
	if event.Advice != "" && len(c.advice) < adviceShown {
		c.advice = append(c.advice, short(400, event.Advice))
	}
	return nil
}

func (c *checkRun) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// repairPage is what the page of that name shows.
type repairPage struct {
	Last *checkRun // of this repository, by this session; nil: none
}

func (v *visit) repair() error {
	if _, err := v.administrated(); err != nil {
		return err
	}
	p := repairPage{}
	if run := v.lastCheck(); run != nil && run.Name == v.name {
		p.Last = run
	}
	return v.page("repair", "Repair", p)
}

func (v *visit) lastCheck() *checkRun {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.s.check
}

func (v *visit) confirmCheck() error {
	r, err := v.administrated()
	if err != nil {
		return err
	}
	c := confirmation{
		What: "The check compares the index with itself and with the files, and tells what is wrong. It changes nothing but marks of items that it finds missing. " +
			"It goes on until it is done, is stopped, or you log out.",
		Details: []detail{{"Items", count(r.Usage.Items)}, {"To read", "the names of the files"}},
		Action:  "check", Button: "Begin", Back: link("repair", "name", v.name),
	}
	if v.r.FormValue("verify") != "" {
		c.Details[1].Value = "every byte, " + bytesize.Text(r.Usage.Bytes) + ", at full speed"
		c.Fields = []field{{"verify", "yes"}}
	}
	return v.confirm("Check the repository", c)
}

func (v *visit) check() error {
	ctx, stop := context.WithCancel(v.h.ctx)
	run := &checkRun{Name: v.name, Verify: v.r.PostFormValue("verify") != "", Begun: v.h.o.Now(), stop: stop, done: make(chan struct{})}
	v.s.mu.Lock()
	before := v.s.check
	under := before != nil && !before.ended()
	if !under {
		v.s.check = run
	}
	v.s.mu.Unlock()
	if under {
		stop()
		return wrongInput("this session checks %s already; wait for that, or stop it", short(80, before.Name))
	}
	// Of its own, as the browser does not wait for it.
	c := v.h.client(v.h.senderOf(v.r, v.s.authorization))
	v.h.running.Go(func() {
		defer close(run.done)
		defer run.stop()
		err := c.Check(ctx, run.Name, run.Verify, run.note)
		run.mu.Lock()
		defer run.mu.Unlock()
		if run.err = err; ctx.Err() != nil {
			run.err = errors.New("the check was stopped before its end")
		}
	})
	v.awaitCheck(run)
	return nil
}

// awaitCheck answers with the page of a check, at its end unless that takes longer: its disk may not answer.
func (v *visit) awaitCheck(run *checkRun) {
	patience := time.NewTimer(rollbackPatience)
	defer patience.Stop()
	select {
	case <-run.done:
	case <-patience.C:
	case <-v.r.Context().Done():
	}
	v.redirect(link("check/state", "name", v.name))
}

// checkView is a check as pages show it.
type checkView struct {
	Verify   bool
	Begun    time.Time
	Ended    bool
	Percent  int64
	Last     local.CheckEvent
	Problems []string
	More     int // problems beyond those
	Advice   []string
	Error    string
}

func (v *visit) checkState() error {
	if _, err := v.administrated(); err != nil {
		return err
	}
	run := v.lastCheck()
	if run == nil || run.Name != v.name {
		return wrongInput("this session has not checked this repository")
	}
	p := checkView{Verify: run.Verify, Begun: run.Begun, Ended: run.ended()}
	run.mu.Lock()
	defer run.mu.Unlock()
	p.Last, p.Problems, p.Advice = run.last, run.problems, run.advice
	p.Percent, p.More = share(run.last.Bytes, run.last.Total), run.last.Problems-len(run.problems)
	if run.err != nil {
		p.Error = sentence(run.err.Error())
	}
	return v.page("checkstate", "Check", p)
}

func (v *visit) stopCheck() error {
	run := v.lastCheck()
	if run == nil || run.Name != v.name {
		return wrongInput("this session has not checked this repository")
	}
	run.stop()
	v.awaitCheck(run)
	return nil
}

// salvageHours reads for how long damaged items are to be served.
func (v *visit) salvageHours() (time.Duration, error) {
	hours, err := strconv.Atoi(v.r.FormValue("hours"))
	if most := int(repo.MaxSalvage / time.Hour); err != nil || hours < 0 || hours > most {
		return 0, wrongInput("damaged items can be served for 1 to %d hours; 0 ends it", most)
	}
	return time.Duration(hours) * time.Hour, nil
}

func (v *visit) confirmSalvage() error {
	r, err := v.administrated()
	if err != nil {
		return err
	}
	d, err := v.salvageHours()
	if err != nil {
		return err
	}
	c := confirmation{
		What:    "Damaged items will be served with the wrong bytes that are on the disk, so that a client's own repair can keep what is intact of them.",
		Details: []detail{{"Damaged items", count(r.Usage.Damaged)}, {"Until", stamp(v.h.o.Now().Add(d))}},
		Warning: "Clients that do not check what they read take these bytes for good. Use it for a repair, and end it then.",
		Action:  "salvage", Button: "Serve damaged items", Danger: true, Fields: []field{{"hours", v.r.FormValue("hours")}}, Back: link("repair", "name", v.name),
	}
	if d == 0 {
		c.What, c.Warning, c.Details[1].Value, c.Button, c.Danger = "Damaged items will be refused again.", "", "now", "End it", false
		c.Details[1].Name = "From"
	}
	return v.confirm("Serve damaged items", c)
}

func (v *visit) salvage() error {
	d, err := v.salvageHours()
	if err != nil {
		return err
	}
	until, _, err := v.Salvage(v.r.Context(), v.name, d)
	switch {
	case err != nil:
		return err
	case d == 0:
		return v.done(link("repair", "name", v.name), "Damaged items are refused again.")
	}
	return v.done(link("repair", "name", v.name), "Damaged items are served until %s.", stamp(until))
}

// lossPage tells what an acceptance of the loss would mark.
func (v *visit) lossPage() error {
	if _, err := v.administrated(); err != nil {
		return err
	}
	report, _, err := v.Missing(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	return v.page("loss", "Missing items", report)
}

func (v *visit) acceptLoss() error {
	r, _, err := v.AcceptLoss(v.r.Context(), v.name, v.r.PostFormValue("forget") != "")
	if err != nil {
		return err
	}
	text := "Marked as missing: " + plural(r.Items, "item") + ", " + bytesize.Text(r.Bytes) + "."
	if r.Removed > 0 {
		text += " To the trash: " + plural(r.Removed, "item") + "."
	}
	return v.done(link("repair", "name", v.name), "%s", text)
}
