package repo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/index"
	"packhouse/internal/shell"
)

// Guard limits what clients can do to the snapshots of a repository, and how soon what they removed is gone for good. Its zero value limits
// nothing.
//
// A snapshot is removed when it is deleted, replaced, or renamed to what its client can undelete. Its age goes by when its bytes came, by the
// server's clock. The rules hold whatever the request, for every principal that is not Principal.Unguarded, and the keeping of what was
// removed for all.
type Guard struct {
	// MinAge is for how long everything can be restored at least that is removed or replaced: a removed snapshot is of no use without
	// what it refers to, and which items these are is encrypted. Settings.Grace is raised to it.
	MinAge time.Duration
	// Refuse is to refuse the removal of snapshots younger than MinAge, instead of only keeping what was removed.
	Refuse bool
	// KeepLast is how many of the snapshots that came last stay restorable when they are removed, and with them all that is removed after
	// them, until as many newer ones have come. They are counted by principal. Settings.Grace is raised to KeepLastGrace.
	KeepLast int64
	// MaxRemoved is how many snapshots may be removed within a day.
	MaxRemoved MaxRemoved
}

// MaxRemoved is a number of snapshots, or a share of those that there were a day ago and have come since. Its zero value is no limit.
type MaxRemoved struct {
	Count int64
	Share float64 // more than 0, up to 1; 0: Count counts
}

func (m MaxRemoved) limits() bool { return m != MaxRemoved{} }

// of is how many of so many snapshots may be removed: of a share, one at least.
func (m MaxRemoved) of(snapshots int64) int64 {
	if m.Share == 0 {
		return m.Count
	}
	return max(1, int64(m.Share*float64(snapshots)))
}

// The rules of a guard that refuse something.
const (
	RuleMinAge     = "min_age"
	RuleKeepLast   = "keep_last" // the repository is destroyed
	RuleMaxRemoved = "max_removed"
	RuleMoved      = "moved" // a snapshot is renamed, other than to be undeleted, or back
)

// GuardRules are all of them.
var GuardRules = [...]string{RuleMinAge, RuleKeepLast, RuleMaxRemoved, RuleMoved}

// GuardError is an ErrDenied: a rule of the guard refuses a request, of which nothing was carried out.
type GuardError struct {
	Rule       string // of GuardRules
	Repository string
	Key        string        // of a snapshot that the request would remove
	MinAge     time.Duration // of RuleMinAge
	Removed    int64         // of RuleMaxRemoved: within the last day
	Limit      int64
	Until      time.Time // when the request would be carried out; zero: never
}

func (e *GuardError) Error() string {
	lift := fmt.Sprintf("an administrator can lift this on the server: packhouse guard lift %s --for 1h", shell.Word(e.Repository))
	until := "until " + e.Until.UTC().Format(time.RFC3339)
	if e.Until.IsZero() {
		until = "in one request with so many others"
	}
	switch e.Rule {
	case RuleMinAge:
		return fmt.Sprintf("refused by min_age: %s came less than %s ago and cannot be removed or replaced %s; %s", e.Key, shortDuration(e.MinAge), until, lift)
	case RuleKeepLast:
		return fmt.Sprintf("refused by keep_last: the repository has snapshots, or keeps them after their removal, as %s, and cannot be destroyed; %s", e.Key, lift)
	case RuleMaxRemoved:
		return fmt.Sprintf("refused by max_removed: %d snapshots were removed within a day, and there may be %d; %s cannot be removed %s; %s",
			e.Removed, e.Limit, e.Key, until, lift)
	}
	return fmt.Sprintf("refused by the guard: the snapshot %s cannot be renamed; %s", e.Key, lift)
}
func (e *GuardError) Is(target error) bool { return target == ErrDenied }

// shortDuration is a duration without parts that are zero.
func shortDuration(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.Round(time.Second).String()
}

// guard is the state of a repository's Guard. The zero value works.
type guard struct {
	rules  atomic.Pointer[Guard]
	lifted atomic.Int64 // until then nothing is refused; Unix ms
	last   lastHold

	mu       sync.Mutex // held over a request that removes snapshots; after that of the compactions
	removals removals   // guarded by mu
	loaded   bool       // removals are those that are stored; guarded by mu
	refusals [len(GuardRules)]atomic.Int64
	refused  atomic.Int64 // when that was last; Unix ms
}

// Guard returns the rules.
func (r *Repository) Guard() Guard {
	if rules := r.guard.rules.Load(); rules != nil {
		return *rules
	}
	return Guard{}
}

// The names of the meta values of the guard: until when it is lifted, Unix ms, decimal; and the removals of the last day.
const (
	metaGuardLifted = "guard lifted"
	metaRemovals    = "snapshots removed"
)

// MaxGuardLift is for how long a guard can be lifted: nobody is to forget it.
const MaxGuardLift = 7 * 24 * time.Hour

// LiftGuard lets clients do for a limited time what the guard refuses, and lets go what only Guard.KeepLast keeps; 0 ends it. What Guard.MinAge
// keeps is kept on. It is durable when it returns.
func (r *Repository) LiftGuard(ctx context.Context, d time.Duration) (until time.Time, err error) {
	if d < 0 || d > MaxGuardLift {
		return until, Errorf(ErrInvalid, "a guard can be lifted for at most %d hours", int(MaxGuardLift/time.Hour))
	}
	r.settingsMu.Lock()
	defer r.settingsMu.Unlock()
	set := index.SetMeta{Name: metaGuardLifted}
	if d > 0 {
		until = r.env.Now().Add(d).Truncate(time.Millisecond)
		set.Value = strconv.AppendInt(nil, until.UnixMilli(), 10)
	}
	if _, err := r.apply(ctx, set); err != nil {
		return time.Time{}, err
	}
	if d > 0 {
		r.guard.lifted.Store(until.UnixMilli())
		r.env.Logger.Warn("the guard is lifted: removals of snapshots are not refused", "repository", r.Name(), "until", until)
	} else {
		r.guard.lifted.Store(0)
		r.env.Logger.Info("the guard is not lifted any more", "repository", r.Name())
	}
	r.guard.last.forget()
	r.kick()
	return until, nil
}

// GuardLifted is until when the guard is lifted; zero: it is not.
func (r *Repository) GuardLifted() time.Time {
	if until := time.UnixMilli(r.guard.lifted.Load()); until.After(r.env.Now()) {
		return until
	}
	return time.Time{}
}

// loadGuard reads what is stored of the guard.
func (r *Repository) loadGuard() error {
	value, err := r.index.Meta(metaGuardLifted)
	if err != nil || value == nil {
		return err
	}
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return fmt.Errorf("meta value %s: %w", metaGuardLifted, index.ErrCorrupt)
	}
	r.guard.lifted.Store(ms)
	return nil
}

// refusedFor is how long refusals of the guard are shown in Health.
const refusedFor = 24 * time.Hour

// GuardRefusals are how many requests the rules have refused since the repository was opened.
func (r *Repository) GuardRefusals() map[string]int64 {
	counts := make(map[string]int64, len(GuardRules))
	for i, rule := range GuardRules {
		counts[rule] = r.guard.refusals[i].Load()
	}
	return counts
}

// GuardRefused is when the guard last refused something, within refusedFor; zero: it did not.
func (r *Repository) GuardRefused() time.Time {
	at := r.guard.refused.Load()
	if at == 0 || r.env.Now().Sub(time.UnixMilli(at)) >= refusedFor {
		return time.Time{}
	}
	return time.UnixMilli(at)
}

// refuse counts a refusal, and returns it.
func (g *guard) refuse(e *GuardError, now time.Time) error {
	for i, rule := range GuardRules {
		if rule == e.Rule {
			g.refusals[i].Add(1)
		}
	}
	g.refused.Store(now.UnixMilli())
	return e
}

// A removal is what a request does to one snapshot.
type removal struct {
	key     string
	to      string    // it is renamed to; empty: it is deleted or replaced
	replace *[32]byte // the BLAKE3 of what is stored in its place; nil: nothing is
}

// guarded asks the guard for a request that removes items. The caller applies more with its own mutations, and then calls done with what
// came of them, in any case unless there is an error; only its first call counts, so that it can be deferred with errAsked as well. No other
// request removes snapshots in between.
func (a *Access) guarded(removals func() []removal) (more []index.Mutation, done func(error), err error) {
	r, rules := a.r, a.r.Guard()
	none := func(error) {}
	if !rules.Refuse && !rules.MaxRemoved.limits() && rules.KeepLast == 0 || a.p.Unguarded {
		return nil, none, nil
	}
	var of []removal
	for _, m := range removals() {
		if r.snapshots.has(m.key) || r.snapshots.has(m.to) {
			of = append(of, m)
		}
	}
	if len(of) == 0 {
		return nil, none, nil
	}
	g := &r.guard
	g.mu.Lock()
	more, count, err := r.guardLocked(rules, of)
	if err != nil {
		g.mu.Unlock()
		return nil, nil, err
	}
	ended := false
	return more, func(err error) {
		if ended {
			return
		}
		ended = true
		defer g.mu.Unlock()
		if err == nil && more != nil {
			g.removals = count
		} else if err != nil {
			g.loaded = false // the outcome may be unknown
		}
	}, nil
}

// errAsked ends what guarded began for who only asks, or did not come to an end.
var errAsked = errors.New("not carried out")

// mayRemove asks the guard for the deletion of items in several transactions, the first of which is not to be carried out if a later one is refused.
func (a *Access) mayRemove(names []string) error {
	_, done, err := a.guarded(func() []removal {
		all := make([]removal, len(names))
		for i, key := range names {
			all[i] = removal{key: key}
		}
		return all
	})
	if err == nil {
		done(errAsked)
	}
	return err
}

// guardLocked is guarded for snapshots. guard.mu is held.
func (r *Repository) guardLocked(rules Guard, removals []removal) (more []index.Mutation, count removals, err error) {
	g, now := &r.guard, r.env.Now()
	lifted := !r.GuardLifted().IsZero()
	var removed, gone int64
	last := ""
	for _, m := range removals {
		leaves, err := r.leaves(m)
		if err != nil {
			return nil, count, err
		}
		for _, l := range leaves {
			switch {
			case lifted:
			case l.away:
				return nil, count, g.refuse(&GuardError{Rule: RuleMoved, Repository: r.Name(), Key: l.key}, now)
			case rules.Refuse && l.at.Add(rules.MinAge).After(now):
				return nil, count, g.refuse(&GuardError{
					Rule: RuleMinAge, Repository: r.Name(), Key: l.key, MinAge: rules.MinAge, Until: l.at.Add(rules.MinAge),
				}, now)
			}
			if l.listed {
				removed++
				last = l.key
			}
			if l.gone {
				gone++
			}
		}
	}
	if !rules.MaxRemoved.limits() || lifted || removed+gone == 0 { // what was removed while it is lifted is no reason to refuse more
		return nil, count, nil
	}
	if !g.loaded {
		if g.removals, err = r.storedRemovals(); err != nil {
			return nil, count, err
		}
		g.loaded = true
	}
	count = g.removals.add(now, removed, gone)
	there, err := r.Snapshots()
	if err != nil {
		return nil, count, err
	}
	within, left := count.total()
	if limit := rules.MaxRemoved.of(there + left - gone); removed > 0 && within > limit {
		return nil, count, g.refuse(&GuardError{
			Rule: RuleMaxRemoved, Repository: r.Name(), Key: last, Removed: within - removed, Limit: limit, Until: count.until(limit, removed),
		}, now)
	}
	return []index.Mutation{index.SetMeta{Name: metaRemovals, Value: count.encode()}}, count, nil
}

// A leaving is a snapshot that a request takes away.
type leaving struct {
	key    string
	at     time.Time // when it came
	listed bool      // its client saw it until now
	gone   bool      // from the directory of snapshots
	away   bool      // it is renamed to what is another snapshot, or none
}

// leaves are the snapshots that a request takes away: none, one, or that which is renamed and that which it replaces.
func (r *Repository) leaves(m removal) (leaves []leaving, err error) {
	s := r.snapshots
	look := func(key string, l leaving) error {
		entry, err := r.index.Get(key)
		switch {
		case err == nil && m.replace != nil && entry.Item.BLAKE3 == *m.replace && entry.Item.Flags&index.FlagUnverified == 0:
			return nil // by the same bytes
		case err == nil && !entry.Dir:
			l.key, l.at = key, time.UnixMilli(min(arrived(&entry.Item), r.env.Now().UnixMilli()))
			leaves = append(leaves, l)
			return nil
		case err == nil || errors.Is(err, ErrNotFound):
			return nil
		}
		return r.translate(err)
	}
	if undeletes := s.undeletes(m.key, m.to); s.has(m.key) && !undeletes && m.to != m.key {
		away := m.to != "" && !s.undeletes(m.to, m.key)
		if err := look(m.key, leaving{listed: s.lists(m.key), gone: m.to == "" && m.replace == nil || !s.has(m.to) && away, away: away}); err != nil {
			return nil, err
		}
	}
	if s.has(m.to) && m.to != m.key { // what it replaces: of two objects one is left
		if err := look(m.to, leaving{listed: s.lists(m.to), gone: true}); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

// MayDestroy asks the guard whether the principal may destroy the repository: a *GuardError if that would remove snapshots which it must not
// remove one by one. What is destroyed is set aside for the grace time.
func (a *Access) MayDestroy(ctx context.Context) error {
	r, rules := a.r, a.r.Guard()
	if !rules.Refuse && !rules.MaxRemoved.limits() && rules.KeepLast == 0 || a.p.Unguarded || !r.GuardLifted().IsZero() {
		return nil
	}
	g, now := &r.guard, r.env.Now()
	var seen int64
	last, key := time.Time{}, ""
	err := r.rows(ctx, index.ListOptions{Dir: r.snapshots.dir, Recursive: true}, func(row *index.Row) error {
		entry, err := row.Entry()
		if err != nil || entry.Dir || !r.snapshots.has(entry.Key) {
			return err
		}
		if r.snapshots.lists(entry.Key) {
			seen++
		}
		if at := time.UnixMilli(min(arrived(&entry.Item), now.UnixMilli())); key == "" || at.After(last) {
			last, key = at, entry.Key
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return r.translate(err)
	}
	if key == "" {
		if rules.KeepLast == 0 {
			return nil
		}
		removed, err := r.lastRemoved(ctx, rules.KeepLast) // with the repository it would go for good when the grace time is over
		if err == nil && removed != nil {
			err = g.refuse(&GuardError{Rule: RuleKeepLast, Repository: r.Name(), Key: removed.key}, now)
		}
		return err
	}
	if until := last.Add(rules.MinAge); rules.Refuse && until.After(now) {
		return g.refuse(&GuardError{Rule: RuleMinAge, Repository: r.Name(), Key: key, MinAge: rules.MinAge, Until: until}, now)
	}
	if rules.KeepLast > 0 {
		return g.refuse(&GuardError{Rule: RuleKeepLast, Repository: r.Name(), Key: key}, now)
	}
	removed, limit, err := r.RemovedSnapshots()
	if err == nil && limit >= 0 && removed+seen > limit {
		err = g.refuse(&GuardError{Rule: RuleMaxRemoved, Repository: r.Name(), Key: key, Removed: removed, Limit: limit}, now)
	}
	return err
}
