package compact

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"packhouse/index"
	"packhouse/repo"
)

// result is what a plan did, as it is kept: with the plan at hand it gives every Outcome.
//
// Encoded, format 1, integers as in encoding/binary:
//
//	n | n outputs, in the order of the operations that make one | m | m sources
//	output: flags u8 | print u64 | n | digest (n 0: named by the plan)
//	source: print u64, of each item read and not deleted, in the order of the plan
//
// A print is the start of a hash of an item's reference: enough to see that it has changed.
type result struct {
	outputs []made
	sources []uint64
}

type made struct {
	sum     []byte
	print   uint64
	existed bool
}

const resultExisted = 1

var errResult = errors.New("result of a plan is damaged")

func print(ref string) uint64 {
	sum := sha256.Sum256([]byte(ref))
	return binary.BigEndian.Uint64(sum[:])
}

// newResult is the result of outputs after they are committed.
func (r *run) newResult(s *survey, outputs []output) *result {
	res := &result{outputs: make([]made, len(outputs))}
	names := make(map[string]uint64, len(outputs))
	for i := range outputs {
		out := &outputs[i]
		if _, known := names[out.key]; !known {
			ref := out.kept
			if out.upload != nil {
				ref = out.upload.Item().Ref
			}
			names[out.key] = print(ref)
		}
		res.outputs[i] = made{sum: out.sum, print: names[out.key], existed: out.existed}
	}
	for _, key := range s.order {
		src := s.sources[key]
		if _, out := names[key]; src.read && !src.delete && !out {
			res.sources = append(res.sources, print(src.item.Ref))
		}
	}
	return res
}

func (res *result) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(res.outputs)))
	for _, m := range res.outputs {
		var flags byte
		if m.existed {
			flags |= resultExisted
		}
		b = binary.BigEndian.AppendUint64(append(b, flags), m.print)
		b = append(binary.AppendUvarint(b, uint64(len(m.sum))), m.sum...)
	}
	b = binary.AppendUvarint(b, uint64(len(res.sources)))
	for _, p := range res.sources {
		b = binary.BigEndian.AppendUint64(b, p)
	}
	return b
}

func decodeResult(b []byte) (*result, error) {
	r := &reader{b: b}
	res := &result{}
	word := func() uint64 {
		if p := r.bytes(8); p != nil {
			return binary.BigEndian.Uint64(p)
		}
		return 0
	}
	for range r.count() {
		m := made{existed: r.byte()&resultExisted != 0, print: word()}
		if n := r.count(); n > 0 {
			m.sum = r.bytes(n)
		}
		res.outputs = append(res.outputs, m)
		if r.err != nil {
			break
		}
	}
	for range r.count() {
		res.sources = append(res.sources, word())
	}
	if r.err != nil || len(r.b) > 0 {
		return nil, errResult
	}
	return res, nil
}

// walk calls fn for every operation of the plan; m is nil for one without an output.
func (res *result) walk(s *recordList, fn func(i int, op *Operation, key string, m *made) error) error {
	c := cursor{records: s}
	n := 0
	for i := range s.len() {
		op, err := c.at(i)
		if err != nil {
			return err
		}
		var m *made
		key := ""
		if op.makes() {
			if n == len(res.outputs) {
				return errResult
			}
			m = &res.outputs[n]
			n++
			if key = op.Target; key == "" {
				key = op.Naming.key(m.sum)
			}
		}
		if err := fn(i, op, key, m); err != nil {
			return err
		}
	}
	if n != len(res.outputs) {
		return errResult
	}
	return nil
}

// keys are the names of all outputs.
func (res *result) keys(s *recordList) (map[string]*made, error) {
	keys := make(map[string]*made, len(res.outputs))
	err := res.walk(s, func(_ int, _ *Operation, key string, m *made) error {
		if m != nil {
			keys[key] = m
		}
		return nil
	})
	return keys, err
}

// report tells the outcome of every operation.
func (res *result) report(s *recordList, each func(int, Outcome) error) error {
	if each == nil {
		return nil
	}
	keys, err := res.keys(s)
	if err != nil {
		return err
	}
	return res.walk(s, func(i int, op *Operation, key string, m *made) error {
		o := Outcome{Key: key, Size: op.size(), Deleted: make([]bool, len(op.Deletes))}
		if m != nil {
			o.Existed = m.existed
			if op.Frame == VGerPack {
				o.Offsets = packOffsets(op.Ranges)
			}
		}
		for j, deleted := range op.Deletes {
			o.Deleted[j] = keys[deleted] == nil
		}
		return each(i, o)
	})
}

// packOffsets are where the blobs of a V'Ger pack begin.
func packOffsets(ranges []Range) []int64 {
	offsets := make([]int64, len(ranges))
	at := int64(len(packHeader))
	for i, rng := range ranges {
		at += prefixSize
		offsets[i] = at
		at += rng.Length
	}
	return offsets
}

// holds reports whether the repository still matches the result: every output exists, deleted items do not, and items that were read are
// unchanged or deleted. Otherwise the plan is a new request, although it reads like the old one. open: for an open plan only the
// outputs are checked.
func (res *result) holds(ctx context.Context, own finder, s *recordList, open bool) (bool, error) {
	stat := own.Stat
	if open {
		stat = own.Lookup
	}
	keys, err := res.keys(s)
	if err != nil {
		return false, err
	}
	look := func(key string) (uint64, bool, error) {
		switch entry, err := stat(ctx, key); {
		case err == nil && entry.Dir:
			return 0, true, nil
		case err == nil && entry.Item.Flags&index.FlagDamaged != 0:
			return 0, true, nil // not what it was
		case err == nil:
			return print(entry.Item.Ref), true, nil
		case errors.Is(err, repo.ErrNotFound), errors.Is(err, repo.ErrNotDir):
			return 0, false, nil
		default:
			return 0, false, err
		}
	}
	for key, m := range keys {
		if now, found, err := look(key); err != nil || !found || now != m.print {
			return false, err
		}
	}
	if open {
		return true, nil
	}
	return res.sourcesHold(s, keys, look)
}

var errChangedSince = errors.New("changed since")

func (res *result) sourcesHold(s *recordList, keys map[string]*made, look func(string) (uint64, bool, error)) (bool, error) {
	deleted := make(map[string]bool)
	err := res.walk(s, func(_ int, op *Operation, _ string, _ *made) error {
		for _, key := range op.Deletes {
			if deleted[key] || keys[key] != nil {
				continue
			}
			deleted[key] = true
			if _, found, err := look(key); err != nil || found {
				return errors.Join(errChangedSince, err)
			}
		}
		return nil
	})
	if err == nil {
		n := 0
		seen := make(map[string]bool)
		err = res.walk(s, func(_ int, op *Operation, _ string, _ *made) error {
			for i, rng := range op.Ranges {
				if i > 0 && op.Ranges[i-1].Key == rng.Key || seen[rng.Key] || deleted[rng.Key] || keys[rng.Key] != nil {
					continue
				}
				seen[rng.Key] = true
				if n == len(res.sources) {
					return errResult
				}
				now, found, err := look(rng.Key)
				if err != nil || found && now != res.sources[n] {
					return errors.Join(errChangedSince, err)
				}
				n++
			}
			return nil
		})
	}
	if errors.Is(err, errChangedSince) {
		return false, nil
	}
	return err == nil, err
}
