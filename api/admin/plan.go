package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// operation is one operation of a plan as JSON; see docs/api.md.
type operation struct {
	Ranges []byteRange `json:"ranges"`
	Target string      `json:"target"`
	Name   *naming     `json:"name"`
	Frame  string      `json:"frame"` // "plain" (default) or "vger-pack"
	Empty  bool        `json:"empty"`
	Delete []string    `json:"delete"`
}

type naming struct {
	Algorithm string `json:"algorithm"`
	Prefix    string `json:"prefix"`
	Levels    int    `json:"levels"`
}

// byteRange is [key, offset, length].
type byteRange compact.Range

func (b *byteRange) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) != 3 {
		return errors.New("a range is [key, offset, length]")
	}
	for i, field := range []any{&b.Key, &b.Offset, &b.Length} {
		if err := json.Unmarshal(parts[i], field); err != nil || string(parts[i]) == "null" {
			return errors.New("a range is [key, offset, length]: a string and two whole numbers")
		}
	}
	return nil
}

// readPlan reads {"operations": […]} as a stream, one operation at a time.
func readPlan(body io.Reader, plan *compact.Plan, deletes bool) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	wrong := func(err error) error { return planSyntax(plan, err) }
	if err := expect(d, json.Delim('{')); err != nil {
		return wrong(err)
	}
	seen := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return wrong(err)
		}
		if name != "operations" || seen {
			return wrong(fmt.Errorf("unexpected member %q", name))
		}
		seen = true
		if err := expect(d, json.Delim('[')); err != nil {
			return wrong(err)
		}
		for d.More() {
			if err := readOperation(d, plan, deletes); err != nil {
				return err
			}
		}
		if err := expect(d, json.Delim(']')); err != nil {
			return wrong(err)
		}
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return wrong(err)
	}
	if !seen {
		return wrong(errors.New("no operations"))
	}
	if _, err := d.Token(); err != io.EOF {
		return wrong(errors.New("text after the plan"))
	}
	return nil
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("expected %v, got %v", want, got)
	}
	return nil
}

// planSyntax is an error of the text at the operation that comes next.
func planSyntax(plan *compact.Plan, err error) error {
	kind := repo.ErrInvalid
	for _, known := range []error{repo.ErrTooLarge, repo.ErrIncomplete} {
		if errors.Is(err, known) {
			kind = known
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		kind, err = repo.ErrIncomplete, errors.New("the plan ends early")
	}
	return &compact.PlanError{Operation: plan.Len(), Range: -1, Err: kind, Detail: err.Error()}
}

func readOperation(d *json.Decoder, plan *compact.Plan, deletes bool) error {
	var o operation
	if err := d.Decode(&o); err != nil {
		return planSyntax(plan, err)
	}
	wrong := func(err error, detail string) error {
		return &compact.PlanError{Operation: plan.Len(), Range: -1, Key: o.Target, Err: err, Detail: detail}
	}
	op := compact.Operation{Empty: o.Empty, Target: o.Target}
	switch o.Frame {
	case "", "plain":
	case "vger-pack":
		op.Frame = compact.VGerPack
	default:
		return wrong(repo.ErrInvalid, fmt.Sprintf("unknown frame %q", o.Frame))
	}
	if o.Name != nil {
		if o.Target != "" {
			return wrong(repo.ErrInvalid, "both target and name")
		}
		algorithm, err := digest.Lookup(o.Name.Algorithm)
		if err != nil {
			return wrong(err, "")
		}
		op.Naming = compact.Naming{Algorithm: algorithm, Prefix: o.Name.Prefix, Levels: o.Name.Levels}
	}
	op.Ranges = make([]compact.Range, len(o.Ranges))
	for i, r := range o.Ranges {
		op.Ranges[i] = compact.Range(r)
	}
	if deletes {
		op.Deletes = o.Delete
	}
	return plan.Add(op)
}
