package admin

import (
	"errors"
	"io"
	"strings"
	"testing"

	"packhouse/compact"
	"packhouse/repo"
)

// endless is first, and then again and again the same.
type endless struct {
	first, again string
	n            int // bytes given
}

func (e *endless) Read(p []byte) (int, error) {
	if e.first == "" {
		e.first = e.again
	}
	n := copy(p, e.first)
	e.first = e.first[n:]
	e.n += n
	if e.n > 64<<20 {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// A plan is read as a stream also inside an operation: what is wrong with it is found where it stands, and what is
// beyond a limit is not kept first.
func TestPlanIsReadAsStream(t *testing.T) {
	e := compact.New(compact.Options{})
	defer e.Close()
	for _, c := range []struct {
		name, first, again string
		err                error
		rng                int
	}{
		{"unknown member", `{"operations":[{"targte":"t","ranges":[["a",0,1]`, `,["a",0,1]`, repo.ErrInvalid, -1},
		{"wrong range", `{"operations":[{"ranges":[["a",0,1],["a",0]`, `,["a",0,1]`, repo.ErrInvalid, 1},
		{"ranges", `{"operations":[{"ranges":[["a",0,1]`, `,["a",0,1]`, repo.ErrTooLarge, -1},
		{"deletions", `{"operations":[{"delete":["a"`, `,"a"`, repo.ErrTooLarge, -1},
		{"operations", `{"operations":[{}`, `,{}`, repo.ErrTooLarge, -1},
		{"members", `{"operations":[{"target":{"a":0`, `,"a":0`, repo.ErrInvalid, -1},
		{"depth", `{"operations":[`, `[`, repo.ErrInvalid, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := e.NewPlan(compact.Limits{Operations: 1000, Ranges: 1000})
			defer plan.Close()
			body := &endless{first: c.first, again: c.again}
			err := readPlan(body, plan, true)
			var where *compact.PlanError
			if !errors.Is(err, c.err) || !errors.As(err, &where) || where.Range != c.rng {
				t.Errorf("got %v, want %v at range %d", err, c.err, c.rng)
			}
			if body.n > 1<<20 {
				t.Errorf("read %d bytes before it was refused", body.n)
			}
		})
	}
}

// Nothing that a client sends makes an answer long.
func TestAnswersAreShort(t *testing.T) {
	e := compact.New(compact.Options{})
	defer e.Close()
	long := strings.Repeat("é", 1<<20)
	for _, text := range []string{
		`{"` + long + `":1}`, `{"operations":[{"` + long + `":1}]}`, `{"operations":["` + long + `"]}`,
		`{"operations":[{"target":"` + long + `","empty":true}]}`, `{"operations":[{"frame":"` + long + `"}]}`,
		`{"operations":[{"empty":true,"name":{"algorithm":"` + long + `"}}]}`, `{"operations":[{"ranges":[["a","` + long + `",1]]}]}`,
		`{"operations":[{"ranges":[["` + long + `",1,1]],"target":"t"}]}`, `{"operations":[{"delete":["` + long + `"]}]}`,
	} {
		plan := e.NewPlan(compact.Limits{})
		err := readPlan(strings.NewReader(text), plan, true)
		p := describe(err)
		if err == nil || p.Status < 400 || p.Status >= 500 || len(p.Detail) > 5000 || len(p.Key) > 3000 {
			t.Errorf("%.60s: got %d, %.200s, detail of %d bytes, key of %d", text, p.Status, p.Detail, len(p.Detail), len(p.Key))
		}
		if err := plan.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever the text, reading a plan ends with a plan or an error that says where.
func FuzzReadPlan(f *testing.F) {
	f.Add(`{"operations":[{"ranges":[["a",1,3]],"name":{"algorithm":"sha256","prefix":"packs","levels":1},"delete":["a"]},{"delete":["b"]}]}`)
	f.Add(`{"operations":[{"ranges":[["a",-1,1]],"target":"t","frame":"vger-pack"},{"empty":true,"target":"u"}]}`)
	f.Add(`{"operations":[[]]}`)
	f.Add(`{"operations":null}`)
	f.Add(`{"operations":[{"ranges":[["a",1e3,3]]}]}`)
	f.Add(`{"operations":[{"ranges":[[null,1,3]]}]} {`)
	e := compact.New(compact.Options{})
	f.Cleanup(func() { e.Close() })
	f.Fuzz(func(t *testing.T, text string) {
		plan := e.NewPlan(compact.Limits{Operations: 100})
		defer plan.Close()
		err := readPlan(strings.NewReader(text), plan, true)
		if err == nil {
			if !strings.Contains(text, "operations") || strings.Count(text, "{") < plan.Len()+1 {
				t.Errorf("%q became a plan of %d operations", text, plan.Len())
			}
			return
		}
		var where *compact.PlanError
		if !errors.As(err, &where) || where.Operation > plan.Len() {
			t.Errorf("%q: got %v, want a PlanError within the plan", text, err)
		}
	})
}

// What is wrong with a plan's text is said in words that name what was expected, and where it stands.
func TestPlanErrors(t *testing.T) {
	e := compact.New(compact.Options{})
	defer e.Close()
	for _, c := range []struct {
		text, want string
		err        error
		op, rng    int
	}{
		{``, "the plan ends early", repo.ErrIncomplete, 0, -1},
		{`{"operations":[{"delete":["a"]},{"target":"t`, "the plan ends early", repo.ErrIncomplete, 1, -1},
		{`{"operations":[{"ranges":[["a",1`, "the plan ends early", repo.ErrIncomplete, 0, 0},
		{`{}`, "no operations", repo.ErrInvalid, 0, -1},
		{`null`, "no operations", repo.ErrInvalid, 0, -1},
		{`[]`, "expected {, got [", repo.ErrInvalid, 0, -1},
		{`"x"`, "expected {, got x", repo.ErrInvalid, 0, -1},
		{`{"operations":{}}`, "expected [, got {", repo.ErrInvalid, 0, -1},
		{`{"operations":[]} []`, "text after the plan", repo.ErrInvalid, 0, -1},
		{`{"operations":[],"more":1}`, `unknown member "more"`, repo.ErrInvalid, 0, -1},
		{`{"operations":[],"operations":[]}`, `member "operations" occurs twice`, repo.ErrInvalid, 0, -1},
		{`{"operations":[{"delete":["a"]},{"empty":true,"empty":true}]}`, `member "empty" occurs twice`, repo.ErrInvalid, 1, -1},
		{`{"operations":[{"empty":1}]}`, "expected true or false, got 1", repo.ErrInvalid, 0, -1},
		{`{"operations":[{"target":false}]}`, "expected a string, got false", repo.ErrInvalid, 0, -1},
		{`{"operations":[{"ranges":[["a",0,1],null]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected [, got null", repo.ErrInvalid, 0, 1},
		{`{"operations":[{"ranges":[["a",0,1],[]]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected a string, got ]", repo.ErrInvalid, 0, 1},
		{`{"operations":[{"ranges":[["a",0]]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected a whole number of 64 bits, got ]", repo.ErrInvalid, 0, 0},
		{`{"operations":[{"ranges":[["a",0,1,2]]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected ], got 2", repo.ErrInvalid, 0, 0},
		{`{"operations":[{"ranges":[["a",1e3,1]]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected a whole number of 64 bits, got 1e3", repo.ErrInvalid, 0, 0},
		{`{"operations":[{"ranges":[["a",null,1]]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected a whole number of 64 bits, got null", repo.ErrInvalid, 0, 0},
		{`{"operations":[{"ranges":[["a",9223372036854775808,1]]}]}`, "a range is [key, offset, length], a string and two whole numbers: expected a whole number of 64 bits, got 9223372036854775808", repo.ErrInvalid, 0, 0},
		{`{"operations":[{"ranges":oops}]}`, "expected a value at byte 25", repo.ErrInvalid, 0, -1},
		{"{\"operations\":[{\"delete\":[\"\xff\"]}]}", "string is not UTF-8 at byte 29", repo.ErrInvalid, 0, -1}, // and not another key
		{`{"operations":[{"frame":"zip"}]}`, `unknown frame "zip"`, repo.ErrInvalid, 0, -1},
	} {
		plan := e.NewPlan(compact.Limits{})
		err := readPlan(strings.NewReader(c.text), plan, true)
		where, ok := errors.AsType[*compact.PlanError](err)
		if !ok || !errors.Is(err, c.err) || !strings.HasSuffix(err.Error(), c.want) || where.Operation != c.op || where.Range != c.rng {
			t.Errorf("%s: got %v (%+v), want %s", c.text, err, where, c.want)
		}
		if err := plan.Close(); err != nil {
			t.Error(err)
		}
	}
}
