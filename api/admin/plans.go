package admin

import (
	"fmt"
	"net/http"
	"time"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
)

// plansShown is how many open plans the answer for a repository has; all of them are in the list of plans.
const plansShown = 10

// OpenPlan is a compaction whose client has not stored the index that completes it, as far as the server knows.
type OpenPlan struct {
	ID        uint64     `json:"id"`
	Since     time.Time  `json:"since"`
	Principal string     `json:"principal"`
	Address   string     `json:"address"`
	Lock      string     `json:"lock,omitempty"` // key, or ID of a TTL lock
	LockSince *time.Time `json:"lock_since,omitempty"`
	Job       string     `json:"job"`
	Packs     int64      `json:"packs"` // sources that stay
	Bytes     int64      `json:"bytes"`
}

func describePlan(p index.Plan) OpenPlan {
	d := OpenPlan{ID: p.ID, Since: p.At, Principal: p.Principal, Address: p.Address, Job: p.Job, Packs: p.Sources, Bytes: p.Bytes}
	var since time.Time
	if d.Lock, since = repo.LockName(p.Lock); !since.IsZero() {
		d.LockSince = &since
	}
	return d
}

// listPlans streams the open plans, the oldest first: a client has one for every batch of its compaction.
func (q *request) listPlans(string) error {
	return q.lines(func(say func(any) error) error {
		return q.repo.Plans(func(p index.Plan) error { return say(describePlan(p)) })
	})
}

// KeptPack is one row of what is kept after compactions.
type KeptPack struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Removed  time.Time `json:"removed"`
	Expires  time.Time `json:"expires"`
	Why      string    `json:"why"` // "replaced": a source of a plan that is complete; "unused": its client called it so
}

// listKept streams what is kept after compactions, in the order in which it expires.
func (q *request) listKept(string) error {
	return q.lines(func(say func(any) error) error {
		return q.repo.EachKept(func(kept index.Kept) error {
			why := "unused"
			if kept.Proven {
				why = "replaced"
			}
			return say(KeptPack{kept.Key, kept.Item.Size, kept.Item.Modified, kept.At, kept.Expires, why})
		})
	})
}

// emptyKept gives back the disk space of what is kept after compactions.
func (q *request) emptyKept(string) error {
	if _, err := q.query(); err != nil {
		return err
	}
	freed, err := q.repo.EmptyKept(q.Context())
	if err != nil {
		return fmt.Errorf("%d kept packs with %d bytes were deleted before this error: %w", freed.Items, freed.Bytes, err)
	}
	return q.reply(http.StatusOK, map[string]any{"items": freed.Items, "bytes": freed.Bytes})
}

// shownJob is a job, and what became of the sources of a plan that left them to its client.
type shownJob struct {
	compact.Job
	Plan *jobPlan `json:"plan,omitempty"`
}

type jobPlan struct {
	Open   bool       `json:"open"`
	Since  *time.Time `json:"since,omitempty"`
	Packs  int64      `json:"packs"` // sources that stay
	Bytes  int64      `json:"bytes"`
	Detail string     `json:"detail"`
}

// withPlan tells of a job that is done whether its plan is open.
func (q *request) withPlan(job compact.Job) (shownJob, error) {
	shown := shownJob{Job: job}
	if job.Opened == 0 {
		return shown, nil
	}
	p, open, err := q.repo.PlanOf(job.ID)
	switch {
	case err != nil:
		return shown, err
	case open:
		shown.Plan = &jobPlan{Open: true, Since: &p.At, Packs: p.Sources, Bytes: p.Bytes,
			Detail: fmt.Sprintf("waits for its client's index: %d packs, %d bytes stay", p.Sources, p.Bytes)}
	default:
		shown.Plan = &jobPlan{Detail: "no longer open: its client's index has completed it, or its sources are gone or part of a later plan"}
	}
	return shown, nil
}
