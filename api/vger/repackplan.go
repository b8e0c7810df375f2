package vger

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"

	"packhouse/compact"
	"packhouse/internal/jsonstream"
	"packhouse/repo"
)

// repackPlan is a repack request after its text was read. The hash that its packs are named
// by comes behind the operations, so these are kept until then: each as
//
//	flags (1 B)  source: length, bytes  blobs: count, then offset, length each
//
// with all numbers as varints, which is a fraction of the text.
type repackPlan struct {
	planHead
	packed  []byte
	count   int   // operations in the text
	deletes bool  // some operation deletes its source
	output  int64 // bytes of all outputs, counted no further than math.MaxInt64
	wrong   error // the first operation that breaks a rule; from then on nothing is kept
	limits  Limits
	blobs   []byte // scratch: of the operation being read
}

const flagDelete = 1 << 0

// repackOperation is one operation on its way from the text to the packed form, and back.
type repackOperation struct {
	source string // as the client wrote it
	delete bool
	count  int // blobs
	wrong  error
	bytes  int64 // of data and prefixes
}

// read implements plan.
func (p *repackPlan) read(s *jsonstream.Reader) error {
	err := p.readList(s, "operations", func(int) error { return p.readOperation(s) })
	p.blobs = nil
	return err
}

// kept implements plan.
func (p *repackPlan) kept() int64 { return int64(cap(p.packed)) }

var operationFields = jsonstream.Fields{Names: []string{"source_pack", "keep_blobs", "delete_after"}, Required: 3}

func (p *repackPlan) readOperation(s *jsonstream.Reader) error {
	o := repackOperation{}
	p.blobs = p.blobs[:0]
	err := s.Object(operationFields, func(name string) (err error) {
		switch name {
		case "source_pack":
			o.source, err = s.String()
		case "keep_blobs":
			err = readBlobs(s, func(b blob) { p.keep(&o, b) })
		case "delete_after":
			o.delete, err = s.Bool()
		default:
			err = s.Skip()
		}
		return err
	})
	if err == nil {
		p.add(&o)
	}
	return err
}

// keep takes one blob of the operation being read.
func (p *repackPlan) keep(o *repackOperation, b blob) {
	j := o.count
	o.count++
	if p.wrong != nil || o.wrong != nil || o.count > p.limits.KeepBlobs {
		return
	}
	if err := checkBlob(b); err != nil {
		o.wrong = badRequest("%v at operation %d blob %d", err, p.count, j)
		return
	}
	p.blobs = binary.AppendUvarint(binary.AppendUvarint(p.blobs, b.offset), b.length)
	o.bytes += 4 + int64(b.length)
}

// add takes an operation whose text is complete.
func (p *repackPlan) add(o *repackOperation) {
	i := p.count
	p.count++
	p.deletes = p.deletes || o.delete
	if p.wrong != nil || p.count > p.limits.Operations {
		return
	}
	switch _, ok := packKey(o.source); {
	case !ok:
		p.wrong = badRequest("invalid source_pack at operation %d: %.200s", i, o.source)
	case o.count > p.limits.KeepBlobs:
		p.wrong = badRequest("too many keep_blobs at operation %d: %d (max %d)", i, o.count, p.limits.KeepBlobs)
	default:
		p.wrong = o.wrong
	}
	if p.wrong != nil {
		p.packed = nil
		return
	}
	if o.count > 0 {
		if p.output += 9 + o.bytes; p.output < 0 {
			p.output = math.MaxInt64
		}
	}
	flags := byte(0)
	if o.delete {
		flags |= flagDelete
	}
	p.packed = append(p.packed, flags)
	p.packed = binary.AppendUvarint(p.packed, uint64(len(o.source)))
	p.packed = append(p.packed, o.source...)
	p.packed = binary.AppendUvarint(p.packed, uint64(o.count))
	p.packed = append(p.packed, p.blobs...)
}

// validate implements plan (contract, 5.2).
func (p *repackPlan) validate() (hashName, error) {
	hash, err := p.check()
	switch {
	case err != nil:
		return hashName{}, err
	case p.count > p.limits.Operations:
		return hashName{}, badRequest("too many repack operations: %d (max %d)", p.count, p.limits.Operations)
	case p.wrong != nil:
		return hashName{}, p.wrong
	case p.output > p.limits.Output:
		return hashName{}, badRequest("repack output too large: %d bytes (max %d)", p.output, p.limits.Output)
	}
	return hash, nil
}

// permit implements plan.
func (p *repackPlan) permit(principal repo.Principal) error {
	if p.deletes && principal.May("packs", "D") != nil {
		return status(http.StatusForbidden, "append-only: repack with delete not allowed")
	}
	return nil
}

// repackReader walks the operations of a valid plan.
type repackReader struct{ rest []byte }

func (p *repackPlan) reader() *repackReader { return &repackReader{p.packed} }

func (r *repackReader) uint() uint64 {
	n, width := binary.Uvarint(r.rest)
	r.rest = r.rest[width:]
	return n
}

// next returns the next operation; blob is called for each of its blobs, if not nil.
func (r *repackReader) next(each func(b blob)) (o repackOperation, ok bool) {
	if len(r.rest) == 0 {
		return o, false
	}
	o.delete = r.rest[0]&flagDelete != 0
	r.rest = r.rest[1:]
	n := r.uint()
	o.source = string(r.rest[:n])
	r.rest = r.rest[n:]
	o.count = int(r.uint())
	for range o.count {
		b := blob{r.uint(), r.uint()}
		if each != nil {
			each(b)
		}
	}
	return o, true
}

// fill gives the operations to the engine's plan.
func (p *repackPlan) fill(plan *compact.Plan, naming compact.Naming) error {
	var ranges []compact.Range
	r := p.reader()
	for i := 0; ; i++ {
		ranges = ranges[:0]
		var beyond *blob
		o, ok := r.next(func(b blob) {
			if b.offset+b.length > math.MaxInt64 {
				beyond = &b
				return
			}
			ranges = append(ranges, compact.Range{Offset: int64(b.offset), Length: int64(b.length)})
		})
		if !ok {
			return nil
		}
		key, _ := packKey(o.source)
		if beyond != nil {
			return conflict(i, fmt.Sprintf("offset %d is beyond the end of %s", beyond.offset, key))
		}
		operation := compact.Operation{Ranges: ranges, Naming: naming, Frame: compact.VGerPack}
		for j := range ranges {
			ranges[j].Key = key
		}
		if o.delete {
			operation.Deletes = []string{key}
		}
		if err := plan.Add(operation); err != nil {
			return err
		}
	}
}
