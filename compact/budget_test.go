package compact_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"packhouse/compact"
	"packhouse/repo"
)

// Calls whose plans do not fit into memory together wait for each other, in order. A job in the background and a look at
// a plan do not wait for them.
func TestPlansShareMemory(t *testing.T) {
	p := newFixture(t, limited)
	p.engine.SetBudget(8)
	long := slow(p)
	for _, key := range []string{"x", "k", "j"} {
		p.put(key, []byte("1234"))
	}
	ctx := context.Background()
	ids := make(map[string]bool)
	// begin starts a call and returns its ID once it is there.
	begin := func(op compact.Operation) (id string, ended <-chan error) {
		done := make(chan error, 1)
		go func() {
			_, err := p.run(op)
			done <- err
		}()
		for range 2000 {
			jobs, err := p.engine.Jobs(ctx, p.repo)
			if err != nil {
				t.Fatal(err)
			}
			for _, job := range jobs {
				if !ids[job.ID] {
					ids[job.ID] = true
					return job.ID, done
				}
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatal("the call is not there")
		return "", nil
	}
	first, firstEnded := begin(long) // 2 names, 1 output: 6, and 5 from when it knows that the names are one
	p.untilReading(first)
	_, secondEnded := begin(compact.Operation{Ranges: []compact.Range{{Key: "x", Offset: 0, Length: 2}}, Target: "y"}) // 5
	for !p.engine.CallWaits() {                                                                                        // it is queued
		time.Sleep(time.Millisecond)
	}
	_, thirdEnded := begin(compact.Operation{Deletes: []string{"k"}}) // 1, but it came later

	job := p.submit("now", compact.Operation{Deletes: []string{"j"}})
	if got, err := p.engine.Await(ctx, p.repo, job.ID); err != nil || got.State != compact.Done {
		t.Errorf("job in the background: got %+v, %v", got, err)
	}
	time.Sleep(100 * time.Millisecond)
	p.wantKeys("big", "k", "x")
	if _, err := p.engine.Cancel(ctx, p.repo, first); err != nil {
		t.Fatal(err)
	}
	if err := <-firstEnded; !errors.Is(err, repo.ErrDenied) {
		t.Errorf("cancelled call: got %v", err)
	}
	for _, ended := range []<-chan error{secondEnded, thirdEnded} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	p.wantKeys("big", "x", "y")
}

// A call that waits for memory can be cancelled, and leaves the line.
func TestCancelCallThatWaitsForMemory(t *testing.T) {
	p := newFixture(t, limited)
	p.engine.SetBudget(5)
	op := slow(p)
	var wg sync.WaitGroup
	for _, target := range []string{"small", "little"} {
		op := op
		op.Target = target
		wg.Go(func() {
			if _, err := p.run(op); !errors.Is(err, repo.ErrDenied) {
				t.Errorf("%s: got %v, want it cancelled", op.Target, err)
			}
		})
	}
	var jobs []compact.Job
	for len(jobs) < 2 {
		var err error
		if jobs, err = p.engine.Jobs(context.Background(), p.repo); err != nil {
			t.Fatal(err)
		}
	}
	for _, job := range jobs {
		if _, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	p.put("a", []byte("1234"))
	p.mustRun(compact.Operation{Ranges: []compact.Range{{Key: "a", Offset: 0, Length: 2}}, Target: "b"}) // all is free
}

// Plans that need more than there is are carried out one at a time.
func TestPlansLargerThanMemory(t *testing.T) {
	p := newFixture(t, nil)
	p.engine.SetBudget(3)
	p.put("a", []byte("aAAAa"))
	p.put("b", []byte("bBBBb"))
	var wg sync.WaitGroup
	for _, target := range []string{"c", "d", "e"} {
		wg.Go(func() {
			_, err := p.run(compact.Operation{
				Ranges: []compact.Range{{Key: "a", Offset: 1, Length: 3}, {Key: "b", Offset: 1, Length: 3}, {Key: "a", Offset: 0, Length: 1}}, Target: target,
			})
			if err != nil {
				t.Errorf("%s: %v", target, err)
			}
		})
	}
	wg.Wait()
	for _, target := range []string{"c", "d", "e"} {
		p.want(target, "AAABBBa")
	}
}
