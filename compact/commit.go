package compact

import (
	"context"
	"errors"
	"fmt"

	"packhouse/index"
	"packhouse/repo"
)

// commit makes the plan true: one transaction with all new items, all deletions and the result. An output
// that somebody else stored under its name meanwhile is looked at and kept, and the commit tried again.
func (r *run) commit(s *survey, outputs []output, reservation *repo.Reservation) (*result, error) {
	if err := r.unite(outputs); err != nil {
		return nil, err
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		b := newBatch(s, outputs)
		b.Reservation = reservation
		kept := r.newResult(s, outputs)
		job := r.finished(b.freed)
		b.Job = &index.Job{ID: r.id, Record: encodeJob(job, kept)}
		// From here on the outcome is the index's to decide.
		_, err := r.a.Commit(context.WithoutCancel(r.ctx), b.Batch)
		if err == nil {
			r.job = job
			r.count(job.Progress)
			r.e.o.Logger.Info("plan carried out", "job", r.id, "principal", job.Principal, "operations", r.spool.len(),
				"read", job.Progress.Read, "written", job.Progress.Written, "freed", job.Progress.Freed,
				"seconds", job.Finished.Sub(job.Started).Seconds())
			r.e.pruneSometimes(context.WithoutCancel(r.ctx), r.a.Repository(), job.Finished)
			return kept, nil
		}
		lost := b.lostRace(err)
		if lost == nil {
			return nil, b.explain(s, err)
		}
		if err := r.yield(lost); err != nil {
			return nil, err
		}
	}
}

// unite gives outputs of the same name to the first of them, in the plan's order.
func (r *run) unite(outputs []output) error {
	first := make(map[string]*output, len(outputs))
	for i := range outputs {
		out := &outputs[i]
		owner := first[out.key]
		if owner == nil {
			first[out.key] = out
			continue
		}
		if owner.sum == nil || out.sum == nil {
			return &PlanError{Operation: out.op, Range: -1, Key: out.key, Err: repo.ErrInvalid, Detail: "two operations make the same item"}
		}
		if out.upload != nil {
			out.upload.Discard()
			out.upload = nil
		}
		// Kept by reference or by the owner's upload: what the owner says holds.
		out.kept, out.existed = owner.kept, true
	}
	return nil
}

// batch is a Batch with what its rows belong to.
type batch struct {
	repo.Batch
	outputs  []*output // of Puts
	required []string  // keys of Requires
	deleted  []string  // keys of Deletes
	freed    int64     // bytes of Deletes
}

func newBatch(s *survey, outputs []output) *batch {
	b := &batch{}
	made := make(map[string]bool, len(outputs))
	required := make(map[string]bool)
	require := func(key, ref string) {
		if !required[key] {
			required[key] = true
			b.Requires = append(b.Requires, index.Require{Key: key, Ref: ref})
			b.required = append(b.required, key)
		}
	}
	for i := range outputs {
		out := &outputs[i]
		made[out.key] = true
		switch {
		case out.upload == nil && out.kept != "":
			require(out.key, out.kept)
		case out.upload == nil: // made by an operation before it
		default:
			put := repo.BatchPut{Upload: out.upload, IfRef: out.replace, IfAbsent: out.sum != nil && out.replace == ""}
			if src := s.sources[out.key]; src != nil && src.read {
				put.IfRef = src.item.Ref
			}
			b.Puts = append(b.Puts, put)
			b.outputs = append(b.outputs, out)
		}
	}
	for _, key := range s.order {
		src := s.sources[key]
		switch {
		case made[key]: // guarded by the output's own condition
		case src.delete && src.found:
			b.Deletes = append(b.Deletes, repo.BatchDelete{Key: key, Ref: src.item.Ref, IgnoreMissing: !src.read})
			b.deleted = append(b.deleted, key)
			b.freed += src.item.Size
		case src.read:
			require(key, src.item.Ref)
		}
	}
	return b
}

// position finds the row that the index refused.
func (b *batch) position(err error) (row int, ok bool) {
	var group *index.GroupError
	if !errors.As(err, &group) {
		return 0, false
	}
	return group.Position, true
}

// lostRace returns the output whose name was taken since it was looked at, or nil.
func (b *batch) lostRace(err error) *output {
	row, ok := b.position(err)
	row -= len(b.Requires) + len(b.Deletes)
	if !ok || row < 0 || row >= len(b.outputs) || !errors.Is(err, repo.ErrExists) || b.outputs[row].sum == nil {
		return nil
	}
	return b.outputs[row]
}

// yield keeps the item that took out's name, if its bytes are right.
func (r *run) yield(out *output) error {
	c := cursor{spool: r.spool}
	op, err := c.at(out.op)
	if err != nil {
		return err
	}
	if err := r.adopt(r.ctx, op.Naming, out); err != nil {
		return r.inOperation(out.op, op, err)
	}
	return nil
}

// explain says which part of the plan the commit refused.
func (b *batch) explain(s *survey, err error) error {
	row, ok := b.position(err)
	if !ok {
		return err
	}
	changed := func(key string) error {
		e := &PlanError{Operation: -1, Range: -1, Key: key, Err: errChanged}
		if src := s.sources[key]; src != nil {
			e.Operation, e.Range = src.op, src.rng
		}
		if errors.Is(err, repo.ErrNotFound) {
			e.Err = errGone
		}
		return e
	}
	if row < len(b.required) {
		return changed(b.required[row])
	}
	if row -= len(b.required); row < len(b.deleted) {
		return changed(b.deleted[row])
	}
	if row -= len(b.deleted); row < len(b.outputs) {
		out := b.outputs[row]
		if errors.Is(err, repo.ErrConflict) || errors.Is(err, repo.ErrNotFound) {
			return changed(out.key)
		}
		if errors.Is(err, repo.ErrExists) {
			err = &repo.DeniedError{Letters: "W", Key: out.key, Exists: true}
		}
		return &PlanError{Operation: out.op, Range: -1, Key: out.key, Err: err}
	}
	return fmt.Errorf("store result: %w", err)
}

// finished is the job as the commit stores it.
func (r *run) finished(freed int64) Job {
	job := r.job
	job.State, job.Finished, job.Fault = Done, r.e.o.Now(), nil
	job.Progress = r.progress()
	job.Progress.Operations = job.Progress.OperationsTotal
	job.Progress.Freed = freed
	return job
}

func (r *run) count(p Progress) {
	m := r.e.metrics
	m.plans.WithLabelValues(planDone).Inc()
	m.read.Add(float64(p.Read))
	m.written.Add(float64(p.Written))
	m.freed.Add(float64(p.Freed))
}
