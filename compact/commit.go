package compact

import (
	"context"
	"errors"
	"fmt"

	"packhouse/index"
	"packhouse/repo"
)

// commit carries out the plan's changes in one transaction: all new items, all deletions and the result. If another client has stored an
// output under its name meanwhile, that item is checked and kept, and the commit is tried again.
func (r *run) commit(s *survey, outputs []output, reservation *repo.PlanReservation) (*result, error) {
	if err := r.unite(outputs); err != nil {
		return nil, err
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		b := newBatch(s, outputs, r.open.Load())
		b.Reservation = reservation
		kept := r.newResult(s, outputs)
		job := r.finished(b)
		b.Job = &index.Job{ID: r.id, Record: encodeJob(job, kept)}
		// From here on the outcome is the index's to decide.
		opened, err := r.a.CommitOpen(context.WithoutCancel(r.ctx), b.Batch)
		if err == nil {
			if b.Open != nil {
				job.Progress.Freed = opened.Bytes
				r.logOpened(s, b, opened)
			}
			r.job = job
			r.count(job.Progress)
			r.e.o.Logger.Info("plan carried out", "repository", r.repo.Name(), "job", r.id, "principal", job.Principal, "operations", r.records.len(),
				"read", job.Progress.Read, "written", job.Progress.Written, "freed", job.Progress.Freed,
				"duration_seconds", job.Finished.Sub(job.Started).Seconds())
			r.e.pruneSometimes(context.WithoutCancel(r.ctx), r.repo, job.Finished)
			return kept, nil
		}
		if errors.As(err, new(*index.UnknownError)) {
			return nil, &unknownError{err}
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

// unknownError is the error of a plan whose commit may have happened. Nothing else can be asked of the index until it is opened
// again: its rows then say which, and the same plan gets its result or is carried out.
type unknownError struct{ err error }

func (e *unknownError) Error() string {
	return "it is not known whether the plan was carried out until the repository is opened again: " + e.err.Error()
}
func (e *unknownError) Unwrap() error { return e.err }

func isUnknown(err error) bool { return errors.As(err, new(*unknownError)) }

// logOpened logs how many packs an open plan leaves until its client's index arrives, and what happened to those listed as unused.
func (r *run) logOpened(s *survey, b *batch, opened repo.Opened) {
	log := r.e.o.Logger.With("repository", r.repo.Name(), "job", r.id, "principal", r.job.Principal)
	if opened.Plan != 0 {
		var bytes int64
		for _, key := range b.Open.Sources {
			bytes += s.sources[key].item.Size
		}
		log.Info("compaction waits for its client's index: its sources stay until then", "plan", opened.Plan,
			"packs", len(b.Open.Sources), "bytes", bytes, "lock", b.Open.Compaction.Lock())
	}
	if unused := int64(len(b.Open.Unused)); unused > 0 {
		log.Info("packs that a client calls unused", "removed", opened.Removed, "bytes", opened.Bytes, "left", unused-opened.Removed)
	}
}

// unite merges outputs of the same name into the first of them, in the plan's order.
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

// batch is a Batch with the operations to which its rows belong.
type batch struct {
	repo.Batch
	outputs  []*output // of Puts
	required []string  // keys of Requires
	deleted  []string  // keys of Deletes
	freed    int64     // bytes of Deletes
}

// newBatch returns the changes of the plan. With open, what the plan deletes stays, or the index decides about it.
func newBatch(s *survey, outputs []output, open *repo.Compaction) *batch {
	b := &batch{freed: s.gone}
	if open != nil {
		b.Open = &repo.OpenPlan{Compaction: open}
	}
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
			if open != nil {
				b.Open.Found = append(b.Open.Found, index.Require{Key: out.key, Ref: out.kept})
			}
		case out.upload == nil: // made by an operation before it
		default:
			put := repo.BatchPut{Upload: out.upload, Uncounted: out.uncounted, IfRef: out.replace, IfAbsent: out.sum != nil && out.replace == ""}
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
		case open != nil && src.delete && src.read:
			require(key, src.item.Ref)
			b.Open.Sources = append(b.Open.Sources, key)
		case src.delete && src.found:
			b.Deletes = append(b.Deletes, repo.BatchDelete{Key: key, Ref: src.item.Ref, IgnoreMissing: !src.read})
			b.deleted = append(b.deleted, key)
			b.freed += src.item.Size
		case src.read:
			require(key, src.item.Ref)
		}
	}
	for _, key := range s.unused {
		if src := s.sources[key]; !made[key] && src == nil {
			b.Open.Unused = append(b.Open.Unused, key)
		}
	}
	return b
}

// openRows is the number of mutations for the open plan between the deletions and the outputs.
func (b *batch) openRows() int {
	if b.Open == nil {
		return 0
	}
	return len(b.Open.Unused) + 1
}

// position finds the row that the index refused.
func (b *batch) position(err error) (row int, ok bool) {
	var group *index.GroupError
	if !errors.As(err, &group) {
		return 0, false
	}
	return group.Position, true
}

// lostRace returns the output whose name was taken by another client since it was checked, or nil.
func (b *batch) lostRace(err error) *output {
	row, ok := b.position(err)
	row -= len(b.Requires) + len(b.Deletes) + b.openRows()
	if !ok || row < 0 || row >= len(b.outputs) || !errors.Is(err, repo.ErrExists) || b.outputs[row].sum == nil {
		return nil
	}
	return b.outputs[row]
}

// yield keeps the item that was stored under out's name, if its bytes are correct.
func (r *run) yield(out *output) error {
	c := cursor{records: r.records}
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
	if row -= len(b.deleted); row < b.openRows() {
		return &PlanError{Operation: -1, Range: -1, Err: err}
	}
	if row -= b.openRows(); row < len(b.outputs) {
		out := b.outputs[row]
		if errors.Is(err, repo.ErrConflict) || errors.Is(err, repo.ErrNotFound) {
			return changed(out.key)
		}
		if errors.Is(err, repo.ErrExists) {
			err = &repo.DeniedError{Letters: "W", Key: out.key, Exists: true}
		}
		return &PlanError{Operation: out.op, Range: -1, Key: out.key, Err: err}
	}
	if row -= len(b.outputs); b.Open != nil && row < len(b.Open.Found) {
		return changed(b.Open.Found[row].Key)
	}
	return fmt.Errorf("store result: %w", err)
}

// finished is the job in the form in which the commit of a batch stores it.
func (r *run) finished(b *batch) Job {
	job := r.job
	job.State, job.Finished, job.Fault = Done, r.e.o.Now(), nil
	if open := r.open.Load(); open != nil {
		job.Lock = open.Lock()
	}
	if b.Open != nil {
		job.Opened = int64(len(b.Open.Sources))
	}
	job.Progress = r.progress()
	job.Progress.Operations = job.Progress.OperationsTotal
	job.Progress.Freed = b.freed
	return job
}

func (r *run) count(p Progress) {
	m := r.e.metrics
	m.plans.WithLabelValues(planDone).Inc()
	m.read.Add(float64(p.Read))
	m.written.Add(float64(p.Written))
	m.freed.Add(float64(p.Freed))
}
