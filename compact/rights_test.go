package compact_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// A queued job may do what its principal may when it begins, not what it might when it was submitted; over a restart too.
func TestRightsWhenTheJobBegins(t *testing.T) {
	keeps, err := policy.New(map[string]string{"": "lrw"})
	if err != nil {
		t.Fatal(err)
	}
	deletes, err := policy.New(map[string]string{"": "lrwD"})
	if err != nil {
		t.Fatal(err)
	}
	copies := compact.Operation{Ranges: []compact.Range{{Key: "x", Offset: 1, Length: 2}}, Target: "y"}
	moves := copies
	moves.Deletes = []string{"x"}
	for _, test := range []struct {
		name    string
		op      compact.Operation
		trusted bool
		then    *policy.Permissions
		state   compact.State
		keys    string
	}{
		{"append-only since", moves, false, keeps, compact.Failed, "x"},
		{"nothing deleted", copies, false, keeps, compact.Done, "x y"},
		{"fewer rights that suffice", moves, false, deletes, compact.Done, "y"},
		{"as before", moves, false, nil, compact.Done, "y"},
		{"administrator", moves, true, keeps, compact.Done, "y"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var open atomic.Bool
			p := newPlace(t, func(_ *datadir.Options, o *compact.Options) {
				o.Window = func(now time.Time) time.Time {
					if open.Load() {
						return now
					}
					return now.Add(time.Hour)
				}
				o.Authorize = func(_ *repo.Repository, principal repo.Principal, trusted bool) repo.Principal {
					if principal.Name != "tester" || principal.Permissions != nil || trusted != test.trusted {
						t.Errorf("asked for %+v, trusted %v", principal, trusted)
					}
					if !trusted {
						principal.Permissions = test.then
					}
					return principal
				}
			})
			p.put("x", []byte("1234"))
			plan := p.engine.NewPlan(compact.Limits{})
			defer plan.Close()
			if err := plan.Add(test.op); err != nil {
				t.Fatal(err)
			}
			job, err := p.engine.Submit(context.Background(), p.a, plan, "window", test.trusted)
			if err != nil || job.State != compact.Queued {
				t.Fatalf("submit: got %+v, %v", job, err)
			}
			open.Store(true)
			p.reopen()
			got, err := p.engine.Await(context.Background(), p.repo, job.ID)
			if err != nil || got.State != test.state {
				t.Errorf("got %+v, %v, want %s", got, err, test.state)
			}
			if f := got.Fault; test.state == compact.Failed && (f == nil || f.Key != "x" || !strings.Contains(f.Message, "rights of \"tester\" have changed")) {
				t.Errorf("fault: got %+v", f)
			}
			p.wantKeys(strings.Fields(test.keys)...)
		})
	}
}
