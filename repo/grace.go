package repo

import (
	"time"
)

// ImpliedGrace is the grace time where none is set and a client may add backups but not delete any: such a client would else do away for good
// with what it may overwrite.
const ImpliedGrace = 30 * 24 * time.Hour

// KeepLastGrace is the least grace time where Guard.KeepLast is set: without one nothing is recorded by which what is held could be rolled
// back, and what is held would count against no bound of the trash.
const KeepLastGrace = time.Hour

// metaImpliedGrace is the name of the meta value that says that the repository has an implied grace time. It keeps that when there is no such
// client any more: one that was stolen is locked out first, and what it did is undone then.
const metaImpliedGrace = "implied grace"

// graceOf is the grace time by the settings. implies: it is implied, which is not stored yet.
func (r *Repository) graceOf(settings Settings) (grace time.Duration, implies bool) {
	grace = settings.Grace
	if grace < 0 {
		stored, err := r.index.Meta(metaImpliedGrace)
		if err != nil {
			r.env.Logger.Warn("whether the grace time is implied is not known", "repository", r.Name(), "error", err)
		}
		grace = 0
		if settings.Restricted || stored != nil || err != nil {
			grace, implies = ImpliedGrace, err == nil && stored == nil
		}
	}
	if settings.Guard.KeepLast > 0 {
		grace = max(grace, KeepLastGrace)
	}
	return max(grace, settings.Guard.MinAge), implies
}

// implyGrace is called when somebody comes who may add backups and not delete any.
func (r *Repository) implyGrace() {
	r.settingsMu.Lock()
	defer r.settingsMu.Unlock()
	if r.settings.Restricted = true; r.graceNotSet.Load() {
		r.setGrace(r.settings)
	}
}

// Grace is how long removed items can be restored; 0: not at all.
func (r *Repository) Grace() time.Duration { return time.Duration(r.grace.Load()) }

// Protected is how long nothing that was removed gives way to what is removed later.
func (r *Repository) Protected() time.Duration { return time.Duration(r.protect.Load()) }
