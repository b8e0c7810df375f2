package compact

import (
	"context"
	"errors"
	"io"

	"packhouse/index"
	"packhouse/repo"
)

// perOutput is the disk space that an output uses in addition to its bytes: the trailer, and the rest of its last block.
const perOutput = 4 << 10

// reserve reserves quota and disk space for the plan. If there is too little, the outputs that already exist under their hash are found
// first, because they need none: so a plan that was carried out, and whose answer was lost, is not refused.
func (r *run) reserve(s *survey, outputs []output) (*repo.PlanReservation, error) {
	net, peak := s.net, r.output+perOutput*int64(r.makes)
	reservation, err := r.a.Reserve(net, peak, false)
	if errors.Is(err, repo.ErrNoSpace) || errors.Is(err, repo.ErrQuota) {
		found, findErr := r.find(s, outputs)
		if findErr != nil {
			return nil, findErr
		}
		if found > 0 {
			net, peak = r.unfound(s, outputs)
			peak += perOutput * int64(r.makes-found)
		}
		reservation, err = r.a.Reserve(net, peak, true)
	}
	if err != nil {
		return nil, &PlanError{Operation: -1, Range: -1, Err: err}
	}
	return reservation, nil
}

// find computes the outputs without writing them, to see which of them already exist under their hash, and keeps those. It returns their
// number.
func (r *run) find(s *survey, outputs []output) (found int, err error) {
	sizes, err := r.possible()
	if err != nil || len(sizes) == 0 {
		return 0, err
	}
	err = r.each(outputs, func(ctx context.Context, i int, op *Operation, out *output) error {
		if op.Target != "" || !sizes[named{op.Naming.Prefix, op.size()}] {
			return nil
		}
		naming := op.Naming.Algorithm.New()
		if err := r.copy(ctx, s, i, op, naming, io.Discard); err != nil {
			return err
		}
		sum := naming.Sum(nil)
		key := op.Naming.key(sum)
		if err := r.a.May(key, "wW"); err != nil {
			return err // permissions below the namespace
		}
		ref, right, err := r.standing(ctx, op.Naming, key, sum)
		switch {
		case err != nil:
			return err
		case right:
			*out = output{op: i, key: key, size: op.size(), sum: sum, kept: ref, existed: true, uncounted: r.uncounted(s, op)}
		default:
			r.readTotal.Add(op.reads()) // it is read once more
		}
		return nil
	})
	for i := range outputs {
		if outputs[i].kept != "" {
			found++
		}
	}
	return found, err
}

// named is the key of an output, as far as it is known before the output is written.
type named struct {
	prefix string
	size   int64
}

// possible returns the outputs named by their hash for which an item of that size exists. The others cannot exist already and need not be
// computed: a plan may read a terabyte, and then be refused.
func (r *run) possible() (map[named]bool, error) {
	wanted := make(map[named]bool)
	c := cursor{records: r.records}
	for i := range r.records.len() {
		op, err := c.at(i)
		if err != nil {
			return nil, err
		}
		if op.makes() && op.Target == "" {
			wanted[named{op.Naming.Prefix, op.size()}] = false
		}
	}
	prefixes := make(map[string]bool)
	for n := range wanted {
		prefixes[n.prefix] = true
	}
	for prefix := range prefixes {
		see := func(size int64) {
			if _, ok := wanted[named{prefix, size}]; ok {
				wanted[named{prefix, size}] = true
			}
		}
		err := r.own.List(r.ctx, index.ListOptions{Dir: prefix, Recursive: true}, func(e index.Entry) error {
			if !e.Dir {
				see(e.Item.Size)
			}
			return r.ctx.Err()
		})
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return nil, err
		}
		// What is kept is listed nowhere, and found under its key.
		err = r.repo.EachKept(func(k index.Kept) error {
			see(k.Item.Size)
			return r.ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	for n, seen := range wanted {
		if !seen {
			delete(wanted, n)
		}
	}
	return wanted, nil
}

// unfound is the quota and disk space that the plan needs without the outputs that were found.
func (r *run) unfound(s *survey, outputs []output) (net, bytes int64) {
	net, bytes = s.net, r.output
	stays := make(map[string]bool)
	for i := range outputs {
		out := &outputs[i]
		if out.kept == "" {
			continue
		}
		bytes -= out.size
		if !out.uncounted {
			net -= out.size
		}
		if !stays[out.key] {
			stays[out.key] = true
			net += r.frees(s, out.key) // a source that is its own output is not deleted
		}
	}
	return net, bytes
}
