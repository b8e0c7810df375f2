package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"packhouse/index"
	"packhouse/repo/layout"
	"packhouse/repo/spill"
)

// The plan of a rollback has a row for each key that was changed, and there may be more of them than fit into memory. So they are in tables
// of package spill: who made many changes cannot exhaust the memory of the server with what it takes to undo them.

// newTable makes a table, by name for the file that it gets when it is large. What a crash leaves of that sweepIndex removes.
func (r *Repository) newTable(merge func(older, newer []byte) []byte) *spill.Table {
	name := layout.IndexFile + ".new-sorted-" + strconv.FormatInt(r.tables.Add(1), 10)
	return spill.New(spill.Options{FS: r.env.FS, Path: filepath.Join(r.dir, name), Memory: r.env.TableMemory, Merge: merge})
}

// Keys are put in the order of listings, in which a slash comes before all else. No key has a byte 0.
func sortKey(key string) string   { return strings.ReplaceAll(key, "/", "\x00") }
func keyOfSorted(s string) string { return strings.ReplaceAll(s, "\x00", "/") }

// rollbackStep is one key of which the item changes.
type rollbackStep struct {
	key     string
	target  string // its ref then; empty: none
	current string // its ref now; empty: none
	size    int64  // of the current item
	why     string // it cannot be brought back; empty: it can
}

// rollbackSteps are the steps of a plan, in the order of their keys.
type rollbackSteps struct{ table *spill.Table }

func (s *rollbackSteps) put(step *rollbackStep) error {
	b := binary.AppendVarint(nil, step.size)
	for _, text := range []string{step.target, step.current, step.why} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return s.table.Put(sortKey(step.key), b)
}

func (s *rollbackSteps) each(fn func(*rollbackStep) error) error {
	return s.table.Each(func(key string, b []byte) error {
		step := rollbackStep{key: keyOfSorted(key)}
		size, n := binary.Varint(b)
		step.size, b = size, b[n:]
		for _, text := range []*string{&step.target, &step.current, &step.why} {
			length, n := binary.Uvarint(b)
			*text, b = string(b[n:][:length]), b[n+int(length):]
		}
		return fn(&step)
	})
}

// close gives the steps up. What they say has been counted.
func (p *RollbackPlan) close() {
	if p.steps != nil {
		_ = p.steps.table.Close() // a file that has no name any more
		p.steps = nil
	}
}

// mutations is how many mutations the steps are.
func (p *RollbackPlan) mutations() int64 {
	return p.Removes.Items + 2*p.Replaces.Items + p.Returns.Items
}

// A version is what the history says of a key, from some change on: which ref it is to have.
type version struct {
	target string
	undo   bool // the last changes are to be undone; else what is there now stays
	stays  bool // there was a change that is not to be undone: whatever was before does not matter
}

func (v version) encode() []byte {
	b := make([]byte, 1, 1+len(v.target))
	if v.undo {
		b[0] |= 1
	}
	if v.stays {
		b[0] |= 2
	}
	return append(b, v.target...)
}

func decodeVersion(b []byte) version {
	return version{target: string(b[1:]), undo: b[0]&1 != 0, stays: b[0]&2 != 0}
}

// mergeVersions makes one version of what older and newer changes say.
func mergeVersions(older, newer []byte) []byte {
	was, is := decodeVersion(older), decodeVersion(newer)
	if is.stays || !was.undo {
		is.stays = is.stays || was.stays
		return is.encode()
	}
	return older // the first of those that are undone in a row had the ref that is wanted
}

// planRollback compares what the index has with what it had. last is the ID of the last change that counts, 0: of all that there are. The
// plan must be closed.
func (r *Repository) planRollback(ctx context.Context, to time.Time, principal *string, last uint64) (plan RollbackPlan, err error) {
	plan = RollbackPlan{To: to}
	versions := r.newTable(mergeVersions)
	defer versions.Close() // nothing of it is kept
	change := func(key, before string, undo bool) error {
		v := version{stays: true}
		if undo {
			v = version{target: before, undo: true}
		}
		return versions.Put(sortKey(key), v.encode())
	}
	begun := false
	err = r.Changes(ctx, func(c index.Change) error {
		if last != 0 && c.ID > last {
			return nil
		}
		plan.Last = c.ID
		if begun = begun || c.At.After(to); !begun {
			return nil // all that follows the first later one counts, whatever a clock said
		}
		undo := principal == nil || c.Cause.Principal == *principal
		if undo {
			plan.Changes++
		}
		err := change(c.Key, c.Before, undo)
		if err == nil && c.From != "" {
			err = change(c.From, c.Ref, undo)
		}
		return err
	})
	if err != nil {
		return plan, r.translate(err)
	}
	plan.steps = &rollbackSteps{r.newTable(nil)}
	err = versions.Each(func(key string, value []byte) error {
		version := decodeVersion(value)
		if !version.undo {
			return ctx.Err()
		}
		step := rollbackStep{key: keyOfSorted(key), target: version.target}
		entry, err := r.index.Get(step.key)
		switch {
		case err == nil && !entry.Dir:
			step.current, step.size = entry.Item.Ref, entry.Item.Size
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		if step.current == step.target {
			return ctx.Err()
		}
		return plan.steps.put(&step)
	})
	if err != nil {
		return plan, r.translate(err)
	}
	return plan, r.resolve(ctx, &plan)
}

// sizes are sizes of items by their refs.
type sizes struct{ table *spill.Table }

func (s sizes) put(ref string, size int64) error {
	return s.table.Put(ref, binary.AppendVarint(make([]byte, 0, binary.MaxVarintLen64), size))
}

// remove has a ref not be there any more. A table has no removals.
func (s sizes) remove(ref string) error { return s.put(ref, -1) }

func (s sizes) get(ref string) (size int64, there bool, err error) {
	value, err := s.table.Get(ref)
	if err != nil || value == nil {
		return 0, false, err
	}
	size, _ = binary.Varint(value)
	return size, size >= 0, nil
}

// resolve finds out which items can be brought back, and counts.
func (r *Repository) resolve(ctx context.Context, plan *RollbackPlan) error {
	freed := sizes{r.newTable(nil)} // of the items that go: they may be wanted under another key
	defer freed.table.Close()       // nothing of it is kept
	err := plan.steps.each(func(step *rollbackStep) error {
		if step.current == "" {
			return nil
		}
		return freed.put(step.current, step.size)
	})
	for again := true; again && err == nil; { // an item that stays, because another cannot be brought back, is not there for a third
		again = false
		err = plan.steps.each(func(step *rollbackStep) error {
			if step.target == "" || step.why != "" {
				return ctx.Err()
			}
			_, there, err := freed.get(step.target)
			if err != nil || there {
				return err
			}
			if step.why, err = r.whyLost(step); err != nil || step.why == "" {
				return err
			}
			if step.current != "" {
				again = true
				if err := freed.remove(step.current); err != nil {
					return err
				}
			}
			return plan.steps.put(step)
		})
	}
	if err != nil {
		return r.translate(err)
	}
	return r.translate(plan.steps.each(func(step *rollbackStep) error {
		size, there, err := freed.get(step.target)
		if err != nil {
			return err
		}
		if step.why == "" && step.target != "" && !there {
			place, err := r.index.PlaceOf(step.target)
			if err != nil || place.Removed == nil {
				return errors.Join(err, ErrConflict)
			}
			size = place.Removed.Item.Size
		}
		plan.count(*step, size)
		return nil
	}))
}

func (p *RollbackPlan) count(step rollbackStep, size int64) {
	add := func(to *Emptied, bytes int64) {
		to.Items++
		to.Bytes += bytes
	}
	switch {
	case step.why != "":
		if p.Lost++; p.Lost <= rollbackLost {
			p.LostKeys = append(p.LostKeys, LostVersion{step.key, step.why})
		}
	case step.target == "":
		add(&p.Removes, step.size)
	case step.current == "":
		add(&p.Returns, size)
	default:
		add(&p.Replaces, size)
	}
}

// whyLost tells why the target of a step, which none of the other steps frees, cannot be brought back; empty: it can.
func (r *Repository) whyLost(step *rollbackStep) (string, error) {
	place, err := r.index.PlaceOf(step.target)
	switch {
	case err != nil:
		return "", r.translate(err)
	case place.Item:
		return "it is stored under another key now, and that change is not undone", nil
	case place.Removed == nil:
		return "its bytes are gone", nil
	case place.Kept && place.Removed.Key != step.key:
		return "it is kept under another key", nil
	}
	there, err := r.blobs.Has(refOf(place.Removed.Item))
	if err == nil && !there {
		return "its bytes are gone", nil
	}
	return "", r.translate(err)
}

// nearest looks for the moments next to that of a plan of which all can be brought back. Each try goes by the versions that the one
// before found lost: to where the first of them began, or the last of them ended.
func (r *Repository) nearest(ctx context.Context, plan *RollbackPlan) error {
	since, err := r.HistorySince()
	if err != nil {
		return err
	}
	if plan.Before, err = r.nextWhole(ctx, plan, since, true); err != nil {
		return err
	}
	plan.After, err = r.nextWhole(ctx, plan, since, false)
	return err
}

// nextWhole is the next moment before that of a plan, or after it, of which all can be brought back; zero: none was found.
func (r *Repository) nextWhole(ctx context.Context, plan *RollbackPlan, since time.Time, back bool) (time.Time, error) {
	at := *plan
	giveUp := func() {
		if at.steps != plan.steps {
			at.close()
		}
	}
	defer giveUp()
	for range rollbackTries {
		first, last, err := r.lifeOfLost(ctx, &at)
		if err != nil {
			return time.Time{}, err
		}
		moment := last
		if back {
			moment = first.Add(-time.Millisecond)
		}
		if moment.IsZero() || moment.Before(since) || moment.After(r.env.Now()) {
			break
		}
		giveUp()
		if at, err = r.planRollback(ctx, moment, nil, plan.Last); err != nil {
			return time.Time{}, err
		}
		if at.Lost == 0 {
			return at.To, nil
		}
	}
	return time.Time{}, nil
}

// lifeOfLost is when the first of the versions that a plan cannot bring back was stored, and when the last of them was replaced or removed.
// A version that was stored before the history began has no first moment: then it is the zero time.
func (r *Repository) lifeOfLost(ctx context.Context, plan *RollbackPlan) (first, last time.Time, err error) {
	const unknown = "?"
	lost := r.newTable(nil) // when the refs began, Unix ms
	defer lost.Close()      // nothing of it is kept
	err = plan.steps.each(func(step *rollbackStep) error {
		if step.why == "" {
			return nil
		}
		return lost.Put(step.target, []byte(unknown))
	})
	if err != nil {
		return first, last, r.translate(err)
	}
	err = r.Changes(ctx, func(c index.Change) error {
		if begins, err := lost.Get(c.Ref); err != nil {
			return err
		} else if string(begins) == unknown {
			if err := lost.Put(c.Ref, strconv.AppendInt(nil, c.At.UnixMilli(), 10)); err != nil {
				return err
			}
		}
		if before, err := lost.Get(c.Before); err != nil {
			return err
		} else if before != nil && c.At.After(last) {
			last = c.At
		}
		return nil
	})
	if err != nil {
		return time.Time{}, last, r.translate(err)
	}
	known := true
	err = lost.Each(func(_ string, begins []byte) error {
		ms, err := strconv.ParseInt(string(begins), 10, 64)
		known = known && err == nil
		if begin := time.UnixMilli(ms); first.IsZero() || begin.Before(first) {
			first = begin
		}
		return nil
	})
	if !known {
		first = time.Time{}
	}
	return first, last, r.translate(err)
}
