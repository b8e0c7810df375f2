package admin

import (
	"errors"
	"strings"
	"testing"

	"packhouse/compact"
)

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
