package admin

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"packhouse/compact"
	"packhouse/internal/jsonstream"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// planReader reads {"operations": […]} value by value; see docs/api.md. Of the text it holds one string, and of the plan the
// ranges and deletions of one operation.
type planReader struct {
	text    *jsonstream.Reader
	plan    *compact.Plan
	deletes bool              // false: deletions are read and left out
	op      compact.Operation // being read; its slices are used again
}

// readPlan reads a plan as a stream. Errors: a *compact.PlanError.
func readPlan(body io.Reader, plan *compact.Plan, deletes bool) error {
	p := &planReader{text: jsonstream.New(body), plan: plan, deletes: deletes}
	found := false
	err := p.object(jsonstream.Fields{Names: []string{"operations"}}, func(name string) error {
		if name != "operations" {
			return unknown(name)
		}
		found = true
		return p.list(func(int) error { return p.operation() })
	})
	if err == nil && !found {
		err = errors.New("no operations")
	}
	if err == nil {
		if err = p.text.End(); errors.As(err, new(*jsonstream.Error)) {
			err = errors.New("text after the plan")
		}
	}
	return p.wrong(-1, err)
}

// wrong gives an error its place: in the operation that comes next, of which range is the zero-based one at fault, or -1.
func (p *planReader) wrong(at int, err error) error {
	var already *compact.PlanError
	if err == nil || errors.As(err, &already) {
		return err
	}
	kind := repo.ErrInvalid
	for _, known := range []error{repo.ErrTooLarge, repo.ErrIncomplete, repo.ErrAlgorithm} {
		if errors.Is(err, known) {
			kind = known
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		kind, err = repo.ErrIncomplete, errors.New("the plan ends early")
	}
	if twice, ok := errors.AsType[*jsonstream.Error](err); ok && twice.Problem == jsonstream.Duplicate {
		err = fmt.Errorf("member %q occurs twice", twice.Member)
	}
	if errors.Is(err, kind) {
		return &compact.PlanError{Operation: p.plan.Len(), Range: at, Err: err}
	}
	return &compact.PlanError{Operation: p.plan.Len(), Range: at, Err: kind, Detail: err.Error()}
}

func unknown(name string) error { return fmt.Errorf("unknown member %q", shorten(name)) }

// object reads an object; member reads the value that follows a name. null is an empty one.
func (p *planReader) object(fields jsonstream.Fields, member func(name string) error) error {
	if empty, err := p.begin(jsonstream.Object, "{"); empty || err != nil {
		return err
	}
	return p.text.Object(fields, member)
}

// list reads an array; entry reads entry i. null is an empty one.
func (p *planReader) list(entry func(i int) error) error {
	if empty, err := p.begin(jsonstream.Array, "["); empty || err != nil {
		return err
	}
	return p.text.Array(entry)
}

// begin makes sure that a value of a kind follows. null is true if that follows instead; it is taken then.
func (p *planReader) begin(kind jsonstream.Kind, what string) (null bool, err error) {
	switch next, err := p.text.Kind(); {
	case err != nil:
		return false, err
	case next == jsonstream.Null:
		return p.text.Null()
	case next != kind:
		return false, p.unexpected(what)
	}
	return false, nil
}

// unexpected is the error of a value that follows in place of another.
func (p *planReader) unexpected(want string) error {
	got, err := p.text.Show()
	if err != nil {
		return err
	}
	return fmt.Errorf("expected %s, got %s", want, shorten(got))
}

// string reads a string; null is none.
func (p *planReader) string(into *string) error {
	null, err := p.begin(jsonstream.String, "a string")
	if null || err != nil {
		return err
	}
	*into, err = p.text.String()
	return err
}

func (p *planReader) number() (int64, error) {
	kind, err := p.text.Kind()
	if err != nil {
		return 0, err
	}
	if kind != jsonstream.Number {
		return 0, p.unexpected(wholeNumber)
	}
	text, err := p.text.Number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("expected %s, got %s", wholeNumber, shorten(string(text)))
	}
	return n, nil
}

const wholeNumber = "a whole number of 64 bits"

func (p *planReader) yesNo(into *bool) error {
	null, err := p.begin(jsonstream.Bool, "true or false")
	if null || err != nil {
		return err
	}
	*into, err = p.text.Bool()
	return err
}

var (
	operationFields = jsonstream.Fields{Names: []string{"ranges", "target", "name", "frame", "empty", "delete"}}
	namingFields    = jsonstream.Fields{Names: []string{"algorithm", "prefix", "levels"}}
)

// operation reads one operation and adds it to the plan.
func (p *planReader) operation() error {
	p.op = compact.Operation{Ranges: p.op.Ranges[:0], Deletes: p.op.Deletes[:0]}
	frame, algorithm := "", ""
	err := p.object(operationFields, func(name string) error {
		switch name {
		case "ranges":
			return p.list(p.byteRange)
		case "target":
			return p.string(&p.op.Target)
		case "name":
			return p.naming(&algorithm)
		case "frame":
			return p.string(&frame)
		case "empty":
			return p.yesNo(&p.op.Empty)
		case "delete":
			return p.list(p.deletion)
		}
		return unknown(name)
	})
	if err != nil {
		return p.wrong(-1, err)
	}
	switch frame {
	case "", "plain":
	case "vger-pack":
		p.op.Frame = compact.VGerPack
	default:
		return p.wrong(-1, fmt.Errorf("unknown frame %q", shorten(frame)))
	}
	if algorithm != "" {
		if p.op.Naming.Algorithm, err = digest.Lookup(algorithm); err != nil {
			return p.wrong(-1, err)
		}
	}
	switch n := p.op.Naming; {
	case algorithm == "" && (n.Prefix != "" || n.Levels != 0):
		return p.wrong(-1, errors.New("name has no algorithm"))
	case algorithm != "" && p.op.Target != "":
		return p.wrong(-1, errors.New("target and name cannot be used together"))
	case (algorithm != "" || p.op.Target != "") && len(p.op.Ranges) == 0 && !p.op.Empty:
		return p.wrong(-1, errors.New("a target or name needs ranges; empty: true creates an empty item"))
	}
	return p.plan.Add(p.op)
}

// byteRange reads [key, offset, length].
func (p *planReader) byteRange(i int) error {
	if limit := p.plan.Limits().Ranges; i == limit {
		return p.wrong(-1, fmt.Errorf("%w: more than %d ranges", repo.ErrTooLarge, limit))
	}
	r, err := p.triple(i)
	switch {
	case err == nil:
		p.op.Ranges = append(p.op.Ranges, r)
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, repo.ErrTooLarge), errors.Is(err, repo.ErrIncomplete):
		return p.wrong(i, err)
	}
	return p.wrong(i, fmt.Errorf("a range is [key, offset, length], a string and two whole numbers: %w", err))
}

// triple reads the three values of range i.
func (p *planReader) triple(i int) (r compact.Range, err error) {
	if kind, err := p.text.Kind(); err != nil {
		return r, err
	} else if kind != jsonstream.Array {
		return r, p.unexpected("[")
	}
	read := 0
	err = p.text.Array(func(at int) (err error) {
		switch at {
		case 0:
			err = p.string(&r.Key)
			if i > 0 && p.op.Ranges[i-1].Key == r.Key {
				r.Key = p.op.Ranges[i-1].Key // one string for all ranges of an item
			}
		case 1:
			r.Offset, err = p.number()
		case 2:
			r.Length, err = p.number()
		default:
			err = p.unexpected("]")
		}
		read++
		return err
	})
	switch {
	case err != nil || read == 3:
		return r, err
	case read == 0:
		return r, errors.New("expected a string, got ]")
	}
	return r, fmt.Errorf("expected %s, got ]", wholeNumber)
}

func (p *planReader) deletion(i int) error {
	if limit := p.plan.Limits().Ranges; i == limit {
		return p.wrong(-1, fmt.Errorf("%w: more than %d keys to delete", repo.ErrTooLarge, limit))
	}
	key := ""
	if err := p.string(&key); err != nil || !p.deletes {
		return err
	}
	p.op.Deletes = append(p.op.Deletes, key)
	return nil
}

func (p *planReader) naming(algorithm *string) error {
	n := &p.op.Naming
	return p.object(namingFields, func(name string) error {
		switch name {
		case "algorithm":
			return p.string(algorithm)
		case "prefix":
			return p.string(&n.Prefix)
		case "levels":
			levels, err := p.number()
			n.Levels = int(min(max(levels, 0), 1<<20)) // far beyond any digest; Add refuses it
			return err
		}
		return unknown(name)
	})
}
