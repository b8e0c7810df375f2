package ui

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"packhouse/api"
	"packhouse/api/admin"
	"packhouse/api/client"
	"packhouse/compact"
	"packhouse/internal/bytesize"
)

// repositoryView is what the page of that name shows.
type repositoryView struct {
	R     *client.Repository
	State state
	Guard admin.Guard
	Locks []api.LockInfo
	More  int // locks beyond those
	Jobs  []jobView
	Plot  *plot // nil: there is nothing to see yet
	Span  int   // days that it shows
	Spans []int
}

// Quota is that of the repository in bytes; 0: none.
func (p repositoryView) Quota() int64 {
	if p.R.Usage.Quota == nil {
		return 0
	}
	return *p.R.Usage.Quota
}

// Refused are the rules of the guard that have refused something, and how often.
func (p repositoryView) Refused() string {
	var rules []string
	for _, rule := range slices.Sorted(maps.Keys(p.Guard.Refused)) {
		if n := p.Guard.Refused[rule]; n > 0 {
			rules = append(rules, fmt.Sprintf("%s: %s", rule, count(n)))
		}
	}
	return strings.Join(rules, ", ")
}

// jobsBeside and locksBeside are how many there are on the page of a repository.
const (
	jobsBeside  = 5
	locksBeside = 20
)

// spans are how many days a plot can show.
var spans = []int{30, 90, 400}

func (v *visit) repositoryPage() error {
	ctx := v.r.Context()
	r, err := v.repository()
	if err != nil {
		return err
	}
	p := repositoryView{R: r, State: stateOf(r), Spans: spans}
	if p.Span, err = v.number("days", 1, spans[0]); err != nil {
		return err
	}
	if p.Guard, _, err = v.Guard(ctx, v.name); err != nil {
		return err
	}
	locks, err := v.LocksPage(ctx, v.name, 0, locksBeside)
	if err != nil {
		return err
	}
	p.Locks, p.More = locks.Locks, locks.Total-len(locks.Locks)
	jobs, err := v.JobsPage(ctx, v.name, 0, jobsBeside)
	if err != nil {
		return err
	}
	p.Jobs = viewsOf(jobs.Jobs)
	days, err := v.Growth(ctx, v.name)
	if err != nil {
		return err
	}
	p.Plot = plotOf(days, p.Span)
	return v.page("repository", v.name, p)
}

// confirmation is what a page asks before something is changed.
type confirmation struct {
	What    string   // will happen, in a sentence
	Details []detail // of what it happens to
	Warning string   // "": there is none
	Action  string   // the path below Root that the form is sent to
	Button  string
	Danger  bool
	Fields  []field
	Inputs  []input // what is still to be entered
	Back    string
}

// input is a text field of a confirmation.
type input struct {
	Name, Label, Value string
	Required           bool
}

type detail struct{ Name, Value string }

// field is a value that the form sends back as it is.
type field struct{ Name, Value string }

func (v *visit) confirm(title string, c confirmation) error {
	if c.Back == "" {
		c.Back = v.home()
	}
	if v.name != "" {
		c.Fields = append(c.Fields, field{"name", v.name})
	}
	return v.page("confirm", title, c)
}

// lock finds a lock of the repository.
func (v *visit) lock(id string) (api.LockInfo, error) {
	locks, err := v.Locks(v.r.Context(), v.name)
	if err != nil {
		return api.LockInfo{}, err
	}
	for _, l := range locks {
		if l.ID == id {
			return l, nil
		}
	}
	return api.LockInfo{}, wrongInput("there is no such lock any more; it was released, or broken by someone else")
}

func (v *visit) confirmLock() error {
	if _, err := v.administrated(); err != nil {
		return err
	}
	l, err := v.lock(v.r.FormValue("id"))
	if err != nil {
		return err
	}
	c := confirmation{
		What:    "This lock will be removed, and other clients can go on. The client that holds it is not told.",
		Details: []detail{{"Lock", l.ID}, {"Taken by", takenBy(l)}, {"Since", stamp(l.Since)}, {"Last sign of life", stamp(l.Refreshed)}, {"State", l.Why}},
		Action:  "lock", Button: "Break the lock", Danger: true, Fields: []field{{"id", l.ID}},
	}
	if l.Silence != "" {
		c.Details = append(c.Details, detail{"Requests", l.Silence})
	}
	if !l.Stale {
		c.Warning = "This lock is not stale. If its client is still at work, what it writes and what others remove meanwhile may not fit together. Stop the client first."
	}
	return v.confirm("Break a lock", c)
}

func takenBy(l api.LockInfo) string {
	parts := []string{}
	if l.Host != "" {
		parts = append(parts, l.Host)
	}
	if l.Process != 0 {
		parts = append(parts, fmt.Sprintf("process %d", l.Process))
	}
	if l.Principal != "" {
		parts = append(parts, "user "+l.Principal)
	}
	if l.Address != "" {
		parts = append(parts, "from "+l.Address)
	}
	if len(parts) == 0 {
		return "not known"
	}
	return strings.Join(parts, ", ")
}

func (v *visit) breakLock() error {
	id := v.r.PostFormValue("id")
	if err := v.BreakLock(v.r.Context(), v.name, id); err != nil {
		return err
	}
	return v.done(v.home(), "The lock %s is broken.", short(80, id))
}

// limitOf reads a limit as people write it: what the API wants, and how it is shown.
func limitOf(text string) (value any, shown string, err error) {
	switch text = strings.TrimSpace(text); strings.ToLower(text) {
	case "none", "0":
		return nil, "no limit", nil
	case "default":
		return "default", "that of the configuration", nil
	}
	n, err := bytesize.Parse(text)
	if err != nil || n <= 0 {
		return nil, "", wrongInput(`%q is no size; write a number with K, M, G or T, such as 500G, or "none", or "default" for that of the configuration`, text)
	}
	return n, bytesize.Text(n), nil
}

// limits are those of a repository, as the API and the form name them.
var limits = []struct{ name, text string }{{"quota", "quota"}, {"trash_quota", "quota of the trash"}}

func (v *visit) confirmQuota() error {
	r, err := v.administrated()
	if err != nil {
		return err
	}
	now := []*int64{r.Usage.Quota, r.Usage.TrashQuota}
	used := []int64{r.Usage.Counted, r.Usage.TrashBytes}
	c := confirmation{Action: "quota"}
	for i, limit := range limits {
		text := v.r.FormValue(limit.name)
		if text == "" {
			continue
		}
		value, shown, err := limitOf(text)
		if err != nil {
			return err
		}
		before := "no limit"
		if now[i] != nil {
			before = bytesize.Text(*now[i])
		}
		if c.Button != "" {
			return wrongInput("one limit at a time")
		}
		c.What = "The " + limit.text + " of this repository will be changed. It overrides the configuration file."
		c.Button = "Change the " + limit.text
		c.Details = []detail{{"Now", before}, {"Then", shown}, {"Used", bytesize.Text(used[i])}}
		c.Fields = []field{{limit.name, text}}
		if n, ok := value.(int64); ok && n < used[i] {
			c.Warning = "More than that is used. Clients can then only remove, until it fits again."
		}
	}
	if c.Button == "" {
		return wrongInput("no limit is given")
	}
	return v.confirm(c.Button, c)
}

func (v *visit) setQuota() error {
	for _, limit := range limits {
		text := v.r.PostFormValue(limit.name)
		if text == "" {
			continue
		}
		value, shown, err := limitOf(text)
		if err != nil {
			return err
		}
		if _, _, err := v.SetQuota(v.r.Context(), v.name, map[string]any{limit.name: value}); err != nil {
			return err
		}
		return v.done(v.home(), "The %s is now %s.", limit.text, shown)
	}
	return wrongInput("no limit is given")
}

// jobView is a job as pages show it.
type jobView struct {
	compact.Job
	Percent int64
	Tone    string
	Amount  string // what is done, in words
}

func viewOf(job compact.Job) jobView {
	p := job.Progress
	j := jobView{Job: job, Percent: share(p.Read, p.ReadTotal), Tone: "ok"}
	if p.ReadTotal == 0 {
		j.Percent = share(p.Operations, p.OperationsTotal)
	}
	switch job.State {
	case compact.Done:
		j.Percent = 100
		if job.Bad > 0 {
			j.Tone = "bad"
		}
	case compact.Failed, compact.Unknown:
		j.Tone = "bad"
	case compact.Cancelled:
		j.Tone = "warn"
	case compact.Queued, compact.Running:
		j.Tone = "run"
	}
	what := map[compact.Kind]string{compact.Scrub: "items", compact.Vacuum: "segments"}[job.Kind]
	if what == "" {
		what = "operations"
	}
	j.Amount = count(p.Operations)
	if p.OperationsTotal > 0 && !job.State.Ended() {
		j.Amount += " of " + count(p.OperationsTotal)
	}
	j.Amount += " " + what + ", " + bytesize.Text(p.Read) + " read"
	if p.Written > 0 {
		j.Amount += ", " + bytesize.Text(p.Written) + " written"
	}
	if p.Freed > 0 {
		j.Amount += ", " + bytesize.Text(p.Freed) + " freed"
	}
	if job.Bad > 0 {
		j.Amount += ", " + count(job.Bad) + " bad"
	}
	return j
}

func viewsOf(jobs []compact.Job) []jobView {
	views := make([]jobView, len(jobs))
	for i, job := range jobs {
		views[i] = viewOf(job)
	}
	return views
}

// jobsPage is what the page of that name shows.
type jobsPage struct {
	Jobs  []jobView
	Pager pager
}

func (v *visit) jobs() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	page, err := v.JobsPage(v.r.Context(), v.name, skip, rowsShown)
	if err != nil {
		return err
	}
	return v.page("jobs", "Jobs", jobsPage{viewsOf(page.Jobs), pages("jobs", page.Total, &skip, "name", v.name)})
}

// jobPage is what the page of that name shows.
type jobPage struct {
	jobView
	Mine   bool // the user may cancel it
	Waits  string
	Events string // where its progress is told
}

// oneJob asks for a job.
func (v *visit) oneJob(id string) (job jobPage, err error) {
	text, err := v.Client.Job(v.r.Context(), v.name, id)
	if err != nil {
		return job, err
	}
	var answer struct {
		compact.Job
		Plan *struct {
			Detail string `json:"detail"`
		} `json:"plan"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return job, fmt.Errorf("read the server's answer: %w", err)
	}
	job = jobPage{jobView: viewOf(answer.Job), Events: link("job/events", "name", v.name, "id", id)}
	if answer.Plan != nil {
		job.Waits = answer.Plan.Detail
	}
	job.Mine = !job.State.Ended() && (v.admin() || job.Principal == v.s.name)
	return job, nil
}

func (v *visit) job() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	job, err := v.oneJob(v.r.FormValue("id"))
	if err != nil {
		return err
	}
	return v.page("job", "Job", job)
}

// jobEvents sends the progress of a job as server-sent events, until it ends.
func (v *visit) jobEvents() error {
	id := v.r.FormValue("id")
	if _, err := v.oneJob(id); err != nil { // while an answer can have a status
		return err
	}
	api.Finish(v.w, v.r)
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	if v.r.Method == http.MethodHead {
		return nil
	}
	flusher, ok := v.w.(interface{ Flush() })
	if !ok {
		return fmt.Errorf("this connection takes no events")
	}
	ctx, cancel := context.WithCancel(v.r.Context())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-api.Stopping(v.r.Context()): // a server that stops waits for this answer
			cancel()
		case <-ctx.Done():
		}
	})
	_, err := v.Await(ctx, v.name, id, func(job compact.Job) {
		j := viewOf(job)
		text, err := json.Marshal(map[string]any{"percent": j.Percent, "text": string(j.State) + ": " + j.Amount, "ended": j.State.Ended()})
		if err == nil {
			fmt.Fprintf(v.w, "data: %s\n\n", text) // a browser that is gone needs no error
			flusher.Flush()
		}
	})
	if err != nil && ctx.Err() == nil {
		api.RecordFrom(v.r.Context()).Reason = err.Error()
		fmt.Fprint(v.w, "event: gone\ndata: {}\n\n")
	}
	return nil
}

func (v *visit) confirmCancel() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	job, err := v.oneJob(v.r.FormValue("id"))
	if err != nil {
		return err
	}
	return v.confirm("Cancel a job", confirmation{
		What:    "The job will be cancelled. What it has written so far is removed; items are as if it had never begun. If it is being committed, it is completed instead.",
		Details: []detail{{"Job", job.ID}, {"Kind", string(job.Kind)}, {"Begun by", job.Principal}, {"State", string(job.State) + ": " + job.Amount}},
		Action:  "jobs/cancel", Button: "Cancel the job", Danger: true, Fields: []field{{"id", job.ID}},
		Back: link("job", "name", v.name, "id", job.ID),
	})
}

func (v *visit) cancel() error {
	job, _, err := v.Cancel(v.r.Context(), v.name, v.r.PostFormValue("id"))
	if err != nil {
		return err
	}
	return v.done(link("job", "name", v.name, "id", job.ID), "The job is %s.", job.State)
}

// scrubShares are what a scrub can read.
var scrubShares = map[string]float64{"all": 1, "tenth": 0.1, "thirtieth": 1.0 / 30}

// whens are when a job can begin.
var whens = map[string]string{compact.WhenNow: "now", compact.WhenWindow: "in the next maintenance window; now, if the server has none"}

// when reads when a job is to begin.
func (v *visit) when() (string, error) {
	text := cmp.Or(v.r.FormValue("when"), compact.WhenNow)
	if whens[text] == "" {
		return "", wrongInput("a job begins now, or in the window")
	}
	return text, nil
}

func (v *visit) confirmScrub() error {
	r, err := v.administrated()
	if err != nil {
		return err
	}
	text := v.r.FormValue("share")
	share, ok := scrubShares[text]
	if !ok {
		return wrongInput("there is no such share")
	}
	when, err := v.when()
	if err != nil {
		return err
	}
	return v.confirm("Check the bytes", confirmation{
		What: "A scrub will read stored bytes and compare them with their checksums. It changes nothing but marks: items that are damaged or missing are not served any more, " +
			"until a client has stored the same bytes again.",
		Details: []detail{{"To read", fmt.Sprintf("about %s of %s", bytesize.Text(int64(share*float64(r.Usage.Bytes))), bytesize.Text(r.Usage.Bytes))}, {"Begins", whens[when]}},
		Action:  "scrub", Button: "Begin", Fields: []field{{"share", text}, {"when", when}}, Back: link("jobs", "name", v.name),
	})
}

func (v *visit) scrub() error {
	share, ok := scrubShares[v.r.PostFormValue("share")]
	if !ok {
		return wrongInput("there is no such share")
	}
	when, err := v.when()
	if err != nil {
		return err
	}
	job, _, err := v.Scrub(v.r.Context(), v.name, when, share)
	if err != nil {
		return err
	}
	return v.done(link("job", "name", v.name, "id", job.ID), "The scrub is %s.", job.State)
}

// planPage is what the page "plan" shows.
type planPage struct {
	Plan     string
	Delete   bool
	When     string
	Estimate *compact.Estimate // nil: not asked for yet
}

func (v *visit) planPage() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	return v.page("plan", "Run a compaction", planPage{Delete: true, When: compact.WhenNow})
}

func (v *visit) planOptions() (client.PlanOptions, error) {
	when, err := v.when()
	return client.PlanOptions{When: when, Keep: v.r.PostFormValue("delete") == ""}, err
}

func (v *visit) estimate() error {
	if _, err := v.repository(); err != nil {
		return err
	}
	o, err := v.planOptions()
	if err != nil {
		return err
	}
	p := planPage{Plan: v.r.PostFormValue("plan"), Delete: !o.Keep, When: o.When}
	e, _, err := v.Estimate(v.r.Context(), v.name, strings.NewReader(p.Plan), o)
	if err != nil {
		return err
	}
	p.Estimate = &e
	return v.page("plan", "Run a compaction", p)
}

func (v *visit) plan() error {
	o, err := v.planOptions()
	if err != nil {
		return err
	}
	job, _, err := v.Compact(v.r.Context(), v.name, strings.NewReader(v.r.PostFormValue("plan")), o)
	if err != nil {
		return err
	}
	return v.done(link("job", "name", v.name, "id", job.ID), "The compaction is %s.", job.State)
}

// graceOf is a grace time of the API, in seconds, as people write it.
func graceOf(seconds int64) string {
	if seconds == 0 {
		return "none"
	}
	return span(time.Duration(seconds) * time.Second)
}
