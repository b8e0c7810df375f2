package admin

import (
	"net/http"
	"time"

	"packhouse/repo"
)

// Guard is what limits the removal of snapshots in a repository, and how that stands.
type Guard struct {
	MinAge     int64      `json:"min_age_seconds"` // 0: none
	Guard      string     `json:"guard"`           // "keep" or "refuse"
	KeepLast   int64      `json:"keep_last"`       // 0: none
	MaxRemoved *int64     `json:"max_removed"`     // snapshots within a day, also where a share of them is set; null: any number
	Removed    int64      `json:"removed"`         // of them
	Grace      int64      `json:"grace_seconds"`   // for which removed items can be restored
	Protect    int64      `json:"protect_seconds"` // for which none of them gives way to others
	Lifted     *time.Time `json:"lifted_until"`
	// HeldSince is since when what was removed stays because of KeepLast, although its grace time may be over; null: nothing does.
	HeldSince *time.Time       `json:"held_since"`
	Refused   map[string]int64 `json:"refused"` // requests, by rule, since the repository was opened
}

func (q *request) showGuard(string) error {
	rules := q.repo.Guard()
	d := Guard{
		MinAge: seconds(rules.MinAge), Guard: "keep", KeepLast: rules.KeepLast, Grace: seconds(q.repo.Grace()), Protect: seconds(q.repo.Protected()),
		Refused: q.repo.GuardRefusals(),
	}
	if rules.Refuse {
		d.Guard = "refuse"
	}
	removed, limit, err := q.repo.RemovedSnapshots()
	if err != nil {
		return err
	}
	if d.Removed = removed; limit >= 0 {
		d.MaxRemoved = &limit
	}
	if until := q.repo.GuardLifted(); !until.IsZero() {
		d.Lifted = &until
	}
	since, err := q.repo.HeldSince(q.Context())
	if err != nil {
		return err
	}
	if !since.IsZero() {
		d.HeldSince = &since
	}
	return q.reply(http.StatusOK, d)
}

// liftGuard lifts the guard for so many seconds; 0 ends that.
func (q *request) liftGuard(string) error {
	var body struct {
		Seconds *int64 `json:"seconds"`
	}
	if err := q.document(&body); err != nil {
		return err
	}
	if most := int64(repo.MaxGuardLift / time.Second); body.Seconds == nil || *body.Seconds < 0 || *body.Seconds > most {
		return invalid("seconds is a number from 0 to %d", most)
	}
	if _, err := q.repo.LiftGuard(q.Context(), time.Duration(*body.Seconds)*time.Second); err != nil {
		return err
	}
	return q.showGuard("")
}
