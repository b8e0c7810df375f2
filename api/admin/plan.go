package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// planReader reads {"operations": […]} token by token; see docs/api.md. Of the text it holds one token, and of the plan the
// ranges and deletions of one operation.
type planReader struct {
	d       *json.Decoder
	plan    *compact.Plan
	deletes bool              // false: deletions are read and left out
	op      compact.Operation // being read; its slices are used again
}

// readPlan reads a plan as a stream. Errors: a *compact.PlanError.
func readPlan(body io.Reader, plan *compact.Plan, deletes bool) error {
	p := &planReader{d: json.NewDecoder(body), plan: plan, deletes: deletes}
	p.d.UseNumber()
	found := false
	err := p.object(func(name string) error {
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
		if _, end := p.d.Token(); end != io.EOF {
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
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		kind, err = repo.ErrIncomplete, errors.New("the plan ends early")
	}
	if errors.Is(err, kind) {
		return &compact.PlanError{Operation: p.plan.Len(), Range: at, Err: err}
	}
	return &compact.PlanError{Operation: p.plan.Len(), Range: at, Err: kind, Detail: err.Error()}
}

func unknown(name string) error { return fmt.Errorf("unknown member %q", shorten(name)) }

// object reads an object; member reads the value that follows a name. null is an empty one.
func (p *planReader) object(member func(name string) error) error {
	token, err := p.d.Token()
	if err != nil || token == nil {
		return err
	}
	if token != json.Delim('{') {
		return fmt.Errorf("expected {, got %s", show(token))
	}
	var seen []string
	for p.d.More() {
		token, err := p.d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the decoder takes nothing else for a name
		if slices.Contains(seen, name) {
			return fmt.Errorf("member %q occurs twice", shorten(name))
		}
		seen = append(seen, name)
		if err := member(name); err != nil {
			return err
		}
	}
	return p.expect('}')
}

// list reads an array; entry reads entry i. null is an empty one.
func (p *planReader) list(entry func(i int) error) error {
	token, err := p.d.Token()
	if err != nil || token == nil {
		return err
	}
	if token != json.Delim('[') {
		return fmt.Errorf("expected [, got %s", show(token))
	}
	for i := 0; p.d.More(); i++ {
		if err := entry(i); err != nil {
			return err
		}
	}
	return p.expect(']')
}

func (p *planReader) expect(want json.Delim) error {
	got, err := p.d.Token()
	if err == nil && got != want {
		err = fmt.Errorf("expected %v, got %s", want, show(got))
	}
	return err
}

func show(token json.Token) string {
	if token == nil {
		return "null"
	}
	return shorten(fmt.Sprint(token))
}

// text reads a string; null is none.
func (p *planReader) text(into *string) error {
	token, err := p.d.Token()
	if err != nil || token == nil {
		return err
	}
	s, ok := token.(string)
	if !ok {
		return fmt.Errorf("expected a string, got %s", show(token))
	}
	*into = s
	return nil
}

func (p *planReader) number() (int64, error) {
	token, err := p.d.Token()
	if err != nil {
		return 0, err
	}
	text, ok := token.(json.Number)
	if ok {
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("expected a whole number of 64 bits, got %s", show(token))
}

func (p *planReader) yesNo(into *bool) error {
	token, err := p.d.Token()
	if err != nil || token == nil {
		return err
	}
	yes, ok := token.(bool)
	if !ok {
		return fmt.Errorf("expected true or false, got %s", show(token))
	}
	*into = yes
	return nil
}

// operation reads one operation and adds it to the plan.
func (p *planReader) operation() error {
	p.op = compact.Operation{Ranges: p.op.Ranges[:0], Deletes: p.op.Deletes[:0]}
	frame, algorithm := "", ""
	err := p.object(func(name string) error {
		switch name {
		case "ranges":
			return p.list(p.byteRange)
		case "target":
			return p.text(&p.op.Target)
		case "name":
			return p.naming(&algorithm)
		case "frame":
			return p.text(&frame)
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
	var r compact.Range
	err := p.expect('[')
	if err == nil {
		err = p.text(&r.Key)
	}
	if i > 0 && p.op.Ranges[i-1].Key == r.Key {
		r.Key = p.op.Ranges[i-1].Key // one string for all ranges of an item
	}
	if err == nil {
		r.Offset, err = p.number()
	}
	if err == nil {
		r.Length, err = p.number()
	}
	if err == nil {
		err = p.expect(']')
	}
	switch {
	case err == nil:
		p.op.Ranges = append(p.op.Ranges, r)
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, repo.ErrTooLarge), errors.Is(err, repo.ErrIncomplete):
		return p.wrong(i, err)
	}
	return p.wrong(i, fmt.Errorf("a range is [key, offset, length], a string and two whole numbers: %w", err))
}

func (p *planReader) deletion(i int) error {
	if limit := p.plan.Limits().Ranges; i == limit {
		return p.wrong(-1, fmt.Errorf("%w: more than %d keys to delete", repo.ErrTooLarge, limit))
	}
	key := ""
	if err := p.text(&key); err != nil || !p.deletes {
		return err
	}
	p.op.Deletes = append(p.op.Deletes, key)
	return nil
}

func (p *planReader) naming(algorithm *string) error {
	n := &p.op.Naming
	return p.object(func(name string) error {
		switch name {
		case "algorithm":
			return p.text(algorithm)
		case "prefix":
			return p.text(&n.Prefix)
		case "levels":
			levels, err := p.number()
			n.Levels = int(min(max(levels, 0), 1<<20)) // far beyond any digest; Add refuses it
			return err
		}
		return unknown(name)
	})
}
