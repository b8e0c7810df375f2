package compact

import (
	"errors"
	"fmt"

	"packhouse/index"
	"packhouse/repo"
)

// source is an item that the plan reads, deletes or both, as it was in the index before anything was read.
type source struct {
	item   index.Item
	found  bool
	read   bool
	delete bool
	op     int // that mentions it first
	rng    int // -1: its list of deletions
}

// survey is a plan held against the index.
type survey struct {
	sources map[string]*source
	order   []string       // keys of sources, by first mention
	targets map[string]int // explicit target -> operation
	old     map[string]index.Item
	net     int64 // bytes of quota that the plan adds
	read    int64 // bytes that will be read

	// Of an open plan:
	unused []string // items of operations without an output; to look for them would bring back what is kept
	opens  int64    // bytes that stay beside the outputs and did not before
	closes int64    // bytes of unused that did
	gone   int64    // sizes of unused

	uncounted int64 // sizes of the outputs that do not count
}

// survey checks the whole plan against the index: existence, ranges, permissions. Of the
// plan it is the first fault, in the plan's order, that is reported.
func (r *run) survey() (*survey, error) {
	s := &survey{sources: make(map[string]*source), targets: make(map[string]int), old: make(map[string]index.Item)}
	c := cursor{records: r.records}
	for i := range r.records.len() {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		op, err := c.at(i)
		if err != nil {
			return nil, err
		}
		if err := r.surveyOperation(s, i, op); err != nil {
			return nil, err
		}
	}
	s.net = r.output - s.uncounted
	for key, src := range s.sources {
		s.net -= r.frees(s, key) // of an open plan it stays, but does not count
		if src.delete && src.found && src.item.Plan == 0 && src.item.Flags&index.FlagReturned == 0 {
			s.opens += src.item.Size
		}
	}
	for target, item := range s.old {
		if src := s.sources[target]; src == nil || !src.delete {
			s.net -= item.Counted()
		}
	}
	return s, nil
}

func (r *run) surveyOperation(s *survey, i int, op *Operation) error {
	var last *source
	for j, rng := range op.Ranges {
		if j == 0 || rng.Key != op.Ranges[j-1].Key {
			// Before it is looked for, which brings back what is kept.
			err := r.a.May(rng.Key, "r")
			var src *source
			if err == nil {
				src, err = r.look(s, rng.Key, i, j)
			}
			if err == nil && !src.read {
				err = r.readable(src)
			}
			if err != nil {
				return &PlanError{Operation: i, Range: j, Key: rng.Key, Offset: rng.Offset, Err: err}
			}
			src.read = true
			last = src
		}
		if err := checkRange(last.item.Size, rng, op.Frame); err != nil {
			err.Operation, err.Range = i, j
			return err
		}
		if err := r.sound(last.item, rng, op.Frame); err != nil {
			return &PlanError{Operation: i, Range: j, Key: rng.Key, Offset: rng.Offset, Err: err}
		}
	}
	s.read += op.reads()
	for _, key := range op.Deletes {
		err := r.a.May(key, "D")
		if err == nil && r.open.Load() != nil && !op.makes() {
			if err = r.surveyUnused(s, key); err == nil {
				continue
			}
		}
		var src *source
		if err == nil {
			src, err = r.look(s, key, i, -1)
		}
		if err != nil {
			return &PlanError{Operation: i, Range: -1, Key: key, Err: err}
		}
		src.delete = true
	}
	if op.makes() {
		if r.uncounted(s, op) {
			s.uncounted += op.size()
		}
		return r.surveyName(s, i, op)
	}
	return nil
}

// uncounted reports whether an operation of an open plan makes its output from an item that does not count, because the item is the source of
// another open plan or came back after a compaction. Then the output does not count either; otherwise a repository with a full quota
// could not be compacted any more.
func (r *run) uncounted(s *survey, op *Operation) bool {
	if r.open.Load() == nil || len(op.Ranges) == 0 {
		return false
	}
	src := s.sources[op.Ranges[0].Key] // V'Ger has one for each operation
	return src != nil && src.found && (src.item.Plan != 0 || src.item.Flags&index.FlagReturned != 0)
}

// surveyUnused records an item that the client of an open plan lists as unused.
func (r *run) surveyUnused(s *survey, key string) error {
	if len(s.unused) == maxSources {
		return fmt.Errorf("%w: a plan names at most %d items", repo.ErrTooLarge, maxSources)
	}
	s.unused = append(s.unused, key)
	entry, err := r.own.Stat(r.ctx, key)
	switch {
	case errors.Is(err, repo.ErrNotFound), errors.Is(err, repo.ErrNotDir):
		return nil
	case err != nil:
		return err
	case entry.Dir:
		return repo.ErrIsDir
	}
	s.gone += entry.Item.Size
	if entry.Item.Plan != 0 || entry.Item.Flags&index.FlagReturned != 0 {
		s.closes += entry.Item.Size
	}
	return nil
}

// frees is how many bytes of quota the deletion of an item frees for the plan. Items that may be stored beyond the quota free nothing for
// items that may not.
func (r *run) frees(s *survey, key string) int64 {
	src := s.sources[key]
	if src == nil || !src.delete || !src.found {
		return 0
	}
	if _, made := s.targets[key]; !made && r.repo.CommitKey(key) {
		return 0
	}
	return src.item.Counted()
}

// freed is the size of the items that the plan deletes, as far as it is known before the outputs have their names.
func (s *survey) freed() int64 {
	var n int64
	for key, src := range s.sources {
		if _, made := s.targets[key]; src.delete && src.found && !made {
			n += src.item.Size
		}
	}
	return n
}

// maxSources bounds the memory of a survey: some 400 bytes for each item that a plan names.
const maxSources = 1_000_000

// look finds the item of a key, once for each key. A missing item is no error here, nor is one whose file is missing: it can be deleted.
func (r *run) look(s *survey, key string, i, j int) (*source, error) {
	if src := s.sources[key]; src != nil {
		return src, nil
	}
	if len(s.sources) == maxSources {
		return nil, fmt.Errorf("%w: a plan names at most %d items", repo.ErrTooLarge, maxSources)
	}
	src := &source{op: i, rng: j}
	find := r.own.Row
	if j < 0 || r.dry { // who reads it asks for it, and what is kept returns; who does not, does not
		find = r.own.RowHere
	}
	switch entry, err := find(r.ctx, key); {
	case err == nil && entry.Dir:
		return nil, repo.ErrIsDir
	case err == nil:
		src.found, src.item = true, entry.Item
	case !errors.Is(err, repo.ErrNotFound) && !errors.Is(err, repo.ErrNotDir):
		return nil, err
	}
	s.sources[key] = src
	s.order = append(s.order, key)
	return src, nil
}

// readable tells whether src can be read, or sound ranges of it.
func (r *run) readable(src *source) error {
	if !src.found {
		return repo.ErrNotFound
	}
	if err := r.a.Readable(src.item); !errors.Is(err, repo.ErrDamaged) {
		return err
	}
	return nil // see sound
}

// sound tells whether a range can be read of an item that may be known to be damaged. Who compacts such an item keeps what is left of it.
func (r *run) sound(item index.Item, rng Range, frame Frame) error {
	if item.Flags&index.FlagDamaged == 0 || rng.Length == 0 {
		return nil
	}
	start, end := bounds(item.Size, rng, frame)
	return r.a.Sound(r.ctx, rng.Key, start, end-start)
}

// checkRange tests a range against the size of its item.
func checkRange(size int64, rng Range, frame Frame) *PlanError {
	start, ok := resolve(size, rng)
	switch {
	case !ok:
		return &PlanError{Key: rng.Key, Offset: rng.Offset, Err: repo.ErrInvalid, Detail: "offset before the start of the item"}
	case frame == VGerPack && start < prefixSize:
		return &PlanError{Key: rng.Key, Offset: rng.Offset, Err: repo.ErrInvalid, Detail: "no space for a length in front of the blob"}
	case rng.Length > 0 && start+rng.Length > size:
		return &PlanError{
			Key: rng.Key, Offset: rng.Offset, Want: rng.Length, Got: max(size-start, 0), Err: repo.ErrRange,
		}
	}
	return nil
}

// resolve returns the offset at which a range begins; ok is false if it is before the start of the item.
func resolve(size int64, rng Range) (start int64, ok bool) {
	if rng.Offset >= 0 {
		return rng.Offset, true
	}
	return size + rng.Offset, size+rng.Offset >= 0
}

// bounds returns the position of a range in an item of so many bytes, with the length in front of a blob.
func bounds(size int64, rng Range, frame Frame) (start, end int64) {
	start, _ = resolve(size, rng)
	end = start + rng.Length
	if frame == VGerPack {
		start -= prefixSize
	}
	return start, end
}

// surveyName checks whether the output may be stored under its name.
func (r *run) surveyName(s *survey, i int, op *Operation) error {
	if op.Target == "" {
		// Which key it will be is known at the end; the permissions hardly differ by digest, and the
		// commit tests the real one.
		key := op.Naming.key(make([]byte, op.Naming.Algorithm.Size))
		if err := r.a.May(key, "wW"); err != nil {
			return &PlanError{Operation: i, Range: -1, Key: key, Err: err}
		}
		return nil
	}
	wrong := func(err error, detail string) error {
		return &PlanError{Operation: i, Range: -1, Key: op.Target, Err: err, Detail: detail}
	}
	if _, twice := s.targets[op.Target]; twice {
		return wrong(repo.ErrInvalid, "two operations make the same item")
	}
	s.targets[op.Target] = i
	if err := r.a.May(op.Target, "wW"); err != nil {
		return wrong(err, "")
	}
	switch entry, err := r.own.Row(r.ctx, op.Target); {
	case errors.Is(err, repo.ErrNotFound):
	case err != nil:
		return wrong(err, "")
	case entry.Dir:
		if err := r.own.Vacant(op.Target); err != nil {
			return wrong(err, "")
		}
	case r.a.May(op.Target, "W") != nil:
		return wrong(&repo.DeniedError{Letters: "W", Key: op.Target, Exists: true}, "")
	default:
		s.old[op.Target] = entry.Item
	}
	return nil
}
