package compact

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math"
	"strings"

	"packhouse/repo"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

// Frame is the format of an operation's output.
type Frame uint8

const (
	Plain    Frame = iota // the ranges, one after the other
	VGerPack              // 9-byte header, then per range a 4-byte little-endian length and the bytes
)

// Range is a part of an existing item. Offset may be negative: from the end. With VGerPack
// it points at the blob's data, and the 4 bytes before it must be its length.
type Range struct {
	Key    string
	Offset int64
	Length int64
}

// Naming derives the key of an output from the hash of its content.
type Naming struct {
	Algorithm digest.Algorithm
	Prefix    string // namespace in front, without trailing slash; may be empty
	Levels    int    // two-character directories from the start of the digest; negative is as 0
}

// Operation creates one item from ranges, in order. Without ranges, and with Empty false, it creates none and only deletes.
type Operation struct {
	Ranges  []Range
	Empty   bool   // make an item of no bytes from no ranges
	Target  string // explicit name; replaces an item there
	Naming  Naming // used when Target is empty
	Frame   Frame
	Deletes []string // items to delete when the whole plan has succeeded; never one that is an output of the plan
}

// makes reports whether the operation has an output.
func (o *Operation) makes() bool { return len(o.Ranges) > 0 || o.Empty }

// size is the size of the output, in bytes. Add has checked that it does not overflow.
func (o *Operation) size() int64 {
	if !o.makes() {
		return 0
	}
	var n int64
	if o.Frame == VGerPack {
		n = int64(len(packHeader)) + prefixSize*int64(len(o.Ranges))
	}
	for _, r := range o.Ranges {
		n += r.Length
	}
	return n
}

// reads is the number of bytes that are read for the output.
func (o *Operation) reads() int64 {
	if o.Frame == VGerPack && o.makes() {
		return o.size() - int64(len(packHeader))
	}
	return o.size()
}

// names is how often the operation names an item to read or delete; adjacent ranges of one item count once.
func (o *Operation) names() int {
	n := len(o.Deletes)
	for i, r := range o.Ranges {
		if i == 0 || r.Key != o.Ranges[i-1].Key {
			n++
		}
	}
	return n
}

// Outcome is the result of one operation.
type Outcome struct {
	Key     string // of the new item; empty when the operation makes none
	Size    int64
	Existed bool    // content was there under its name already, and was kept
	Offsets []int64 // VGerPack: where each range's data begins in the new item
	Deleted []bool  // per entry of Operation.Deletes: gone now, also when it was not there before; false: an output of the plan, so kept
}

// Limits of a plan; zero fields mean the defaults.
type Limits struct {
	Operations int   // operations of one plan; 200,000
	Ranges     int   // ranges of one operation, and keys that it deletes; 1,000,000
	Output     int64 // bytes of all outputs; 1 TiB
	PlanBytes  int64 // bytes of the plan as it is kept here; 256 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Operations == 0 {
		l.Operations = 200_000
	}
	if l.Ranges == 0 {
		l.Ranges = 1_000_000
	}
	if l.Output == 0 {
		l.Output = 1 << 40
	}
	if l.PlanBytes == 0 {
		l.PlanBytes = 256 << 20
	}
	return l
}

// PlanError says which part of a plan is wrong. Nothing was changed.
type PlanError struct {
	Operation int // zero-based; -1: the plan as a whole
	Range     int // zero-based; -1: the operation as a whole
	Key       string
	Offset    int64
	Want, Got int64  // bytes, of a short range
	Detail    string // what is wrong, where Err alone does not say it
	Err       error  // repo.ErrNotFound, ErrRange, ErrInvalid, ErrConflict, ErrDenied, ErrTooLarge, …
}

func (e *PlanError) Error() string {
	var b strings.Builder
	switch {
	case e.Operation < 0:
		b.WriteString("plan")
	case e.Range < 0:
		fmt.Fprintf(&b, "operation %d", e.Operation)
	default:
		fmt.Fprintf(&b, "operation %d, range %d", e.Operation, e.Range)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, " (%s)", e.Key)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}
func (e *PlanError) Unwrap() error { return e.Err }

// Plan is a list of operations, built by Add. Above a few MiB it is kept in a temporary file, so that a plan may be larger than
// memory. Close removes the file. A Plan is not safe for concurrent use, and accepts no more operations after it was passed to Run.
type Plan struct {
	limits  Limits
	records *recordList
	sum     hash.Hash // SHA-256 of the records
	output  int64     // bytes of all outputs
	makes   int       // operations with an output
	named   int       // items read or deleted; one that is named in several places may count as often
	record  []byte    // scratch
	err     error     // of the first Add that failed
}

// NewPlan creates an empty plan.
func (e *Engine) NewPlan(limits Limits) *Plan {
	return &Plan{limits: limits.withDefaults(), records: newRecordList(e.o.TempDir), sum: sha256.New()}
}

// Limits returns the limits of the plan, with the defaults filled in.
func (p *Plan) Limits() Limits { return p.limits }

// Len is the number of operations added.
func (p *Plan) Len() int { return p.records.len() }

// Output is the size of all outputs together, in bytes.
func (p *Plan) Output() int64 { return p.output }

// Add appends an operation, which it copies. Errors: a *PlanError for a malformed one or one
// beyond the limits (ErrTooLarge); an I/O error when the temporary file cannot be written. After
// an error the plan can only be closed.
func (p *Plan) Add(o Operation) error {
	if p.err == nil {
		p.err = p.add(&o)
	}
	return p.err
}

func (p *Plan) add(o *Operation) error {
	n := p.Len()
	if n >= p.limits.Operations {
		return &PlanError{Operation: -1, Range: -1, Err: repo.ErrTooLarge,
			Detail: fmt.Sprintf("more than %d operations", p.limits.Operations)}
	}
	if err := p.check(n, o); err != nil {
		return err
	}
	p.record = appendOperation(p.record[:0], o)
	if p.records.size+int64(len(p.record)) > p.limits.PlanBytes {
		return &PlanError{Operation: n, Range: -1, Err: repo.ErrTooLarge, Detail: "the plan is too long"}
	}
	if err := p.records.append(p.record); err != nil {
		return err
	}
	hashRecord(p.sum, p.record)
	if a := o.Naming.Algorithm; a.New != nil {
		p.records.algorithms[a.Name] = a
	}
	p.output += o.size()
	p.named += o.names()
	if o.makes() {
		p.makes++
	}
	return nil
}

// check checks what can be checked in an operation without the index.
func (p *Plan) check(n int, o *Operation) error {
	wrong := func(i int, kind error, format string, args ...any) error {
		e := &PlanError{Operation: n, Range: i, Err: kind, Detail: fmt.Sprintf(format, args...)}
		if i >= 0 {
			e.Key, e.Offset = shorten(o.Ranges[i].Key), o.Ranges[i].Offset
		}
		return e
	}
	if o.Frame > VGerPack {
		return wrong(-1, repo.ErrInvalid, "unknown frame %d", o.Frame)
	}
	if len(o.Ranges) > p.limits.Ranges {
		return wrong(-1, repo.ErrTooLarge, "%d ranges, at most %d", len(o.Ranges), p.limits.Ranges)
	}
	if len(o.Deletes) > p.limits.Ranges {
		return wrong(-1, repo.ErrTooLarge, "%d keys to delete, at most %d", len(o.Deletes), p.limits.Ranges)
	}
	left := p.limits.Output - p.output
	if o.Frame == VGerPack && o.makes() {
		left -= int64(len(packHeader))
	}
	for i, r := range o.Ranges {
		if i == 0 || r.Key != o.Ranges[i-1].Key {
			if err := keys.Check(r.Key); err != nil {
				return &PlanError{Operation: n, Range: i, Key: shorten(r.Key), Offset: r.Offset, Err: err}
			}
		}
		if r.Length < 0 {
			return wrong(i, repo.ErrRange, "negative length %d", r.Length)
		}
		if r.Offset >= 0 && r.Length > math.MaxInt64-r.Offset {
			return wrong(i, repo.ErrRange, "offset and length overflow")
		}
		if o.Frame == VGerPack {
			if err := checkPackRange(o, i); err != "" {
				return wrong(i, repo.ErrInvalid, "%s", err)
			}
			left -= prefixSize
		}
		if left -= r.Length; left < 0 {
			return wrong(i, repo.ErrTooLarge, "the plan's output exceeds %d bytes", p.limits.Output)
		}
	}
	if left < 0 {
		return wrong(-1, repo.ErrTooLarge, "the plan's output exceeds %d bytes", p.limits.Output)
	}
	for _, key := range o.Deletes {
		if err := keys.Check(key); err != nil {
			return &PlanError{Operation: n, Range: -1, Key: shorten(key), Err: err}
		}
	}
	if !o.makes() {
		return nil
	}
	return checkName(n, o)
}

// shorten makes a key from a client short and printable enough for an answer and a log line.
func shorten(key string) string {
	if len(key) <= keys.Max {
		return key
	}
	return strings.ToValidUTF8(key[:100], "") + "…"
}

// checkPackRange returns what is wrong with a range of a V'Ger pack, or "".
func checkPackRange(o *Operation, i int) string {
	r := o.Ranges[i]
	switch {
	case r.Length == 0:
		return "a blob has at least one byte"
	case r.Length > math.MaxUint32:
		return "a blob's length has 32 bits"
	case r.Offset >= 0 && r.Offset < prefixSize:
		return "no space for a length in front of the blob"
	}
	if i > 0 {
		// The same blob twice is the client's business; half of one is not a blob.
		q := o.Ranges[i-1]
		if q.Key == r.Key && q != r && (q.Offset < 0) == (r.Offset < 0) &&
			r.Offset-prefixSize < q.Offset+q.Length && q.Offset-prefixSize < r.Offset+r.Length {
			return "overlaps the range before it"
		}
	}
	return ""
}

// checkName checks what is known of the output's name.
func checkName(n int, o *Operation) error {
	wrong := func(err error) error { return &PlanError{Operation: n, Range: -1, Key: shorten(o.Target), Err: err} }
	if o.Target != "" {
		if err := keys.Check(o.Target); err != nil {
			return wrong(err)
		}
		return nil
	}
	if o.Naming.Algorithm.New == nil {
		return &PlanError{Operation: n, Range: -1, Err: repo.ErrInvalid, Detail: "neither a target nor a hash to name it by"}
	}
	if o.Naming.Levels > o.Naming.Algorithm.Size {
		return &PlanError{Operation: n, Range: -1, Err: repo.ErrInvalid, Detail: "more levels than the digest has bytes"}
	}
	if err := keys.Check(o.Naming.key(make([]byte, o.Naming.Algorithm.Size))); err != nil {
		return wrong(err)
	}
	return nil
}

// key returns the key of an output whose content has the digest sum.
func (n Naming) key(sum []byte) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 2*len(sum))
	for _, c := range sum {
		text = append(text, digits[c>>4], digits[c&15])
	}
	var b strings.Builder
	if n.Prefix != "" {
		b.WriteString(n.Prefix)
		b.WriteByte('/')
	}
	for i := range max(n.Levels, 0) {
		b.Write(text[2*i : 2*i+2])
		b.WriteByte('/')
	}
	b.Write(text)
	return b.String()
}

// Close releases the plan. A run that has begun keeps what it needs.
func (p *Plan) Close() error {
	if p.err == nil {
		p.err = errors.New("plan is closed")
	}
	return p.records.release()
}
