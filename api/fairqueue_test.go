package api_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/api"
)

// Of many that wait from one address, one goes before who comes later from another.
func TestFairQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := api.NewFairQueue(1, 200, 150)
		var mu sync.Mutex
		var order []string
		enter := func(address string) {
			go func() {
				if err := q.Enter(context.Background(), address); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, address)
				mu.Unlock()
				time.Sleep(time.Second)
				q.Leave()
			}()
			synctest.Wait()
		}
		for range 100 {
			enter("many")
		}
		enter("one")
		enter("two")
		time.Sleep(4500 * time.Millisecond)
		mu.Lock()
		got := append([]string(nil), order...)
		mu.Unlock()
		if len(got) != 5 || got[0] != "many" || got[1] != "many" || got[2] != "one" || got[3] != "two" {
			t.Errorf("got %q, want one and two after the next of many", got)
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 102 || q.Waiting() != 0 {
			t.Errorf("%d were admitted, %d wait", len(order), q.Waiting())
		}
	})
}

// The queue is bounded, in all and for one address; who leaves it leaves no place behind.
func TestFairQueueBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := api.NewFairQueue(1, 3, 2)
		if err := q.Enter(context.Background(), "first"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error, 3)
		for _, address := range []string{"a", "a", "b"} {
			go func() { left <- q.Enter(ctx, address) }()
			synctest.Wait()
		}
		if err := q.Enter(context.Background(), "c"); err == nil || q.Waiting() != 3 {
			t.Errorf("a fourth waits: %v", err)
		}
		cancel()
		for range 3 {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		for range 2 {
			go func() { left <- q.Enter(context.Background(), "a") }()
		}
		synctest.Wait()
		if err := q.Enter(context.Background(), "a"); err == nil || q.Waiting() != 2 {
			t.Errorf("a third of one address waits: %v", err)
		}
		q.Leave()
		q.Leave()
		for range 2 {
			if err := <-left; err != nil {
				t.Error(err)
			}
		}
		q.Leave()
		if err := q.Enter(context.Background(), "z"); err != nil || q.Waiting() != 0 {
			t.Errorf("the place is free again: %v", err)
		}
	})
}

// An address has one turn, however often its clients come and leave before it.
func TestFairQueueTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := api.NewFairQueue(1, 200, 150)
		if err := q.Enter(context.Background(), "first"); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			ctx, cancel := context.WithCancel(context.Background())
			go func() { _ = q.Enter(ctx, "restless") }()
			synctest.Wait()
			cancel()
			synctest.Wait()
		}
		admitted := make(chan string, 4)
		for _, address := range []string{"restless", "restless", "restless", "one"} {
			go func() {
				if err := q.Enter(context.Background(), address); err != nil {
					t.Error(err)
				}
				admitted <- address
			}()
			synctest.Wait()
		}
		var order []string
		for range 4 {
			q.Leave()
			order = append(order, <-admitted)
		}
		if order[0] != "restless" || order[1] != "one" {
			t.Errorf("got %q, want one after the next of restless", order)
		}
	})
}

// Who comes from an address without wrong passwords goes before all that wait from others, and finds a place in a queue that they fill;
// but they have a turn once in a while.
func TestFairQueueSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := api.NewFairQueue(1, 40, 40, "bad", "worse")
		if err := q.Enter(context.Background(), "first"); err != nil {
			t.Fatal(err)
		}
		var order []string
		enter := func(address string) {
			go func() {
				if err := q.Enter(context.Background(), address); err != nil {
					t.Errorf("%s: %v", address, err)
				}
				order = append(order, address)
			}()
			synctest.Wait()
		}
		for range 15 {
			enter("bad")
			enter("worse")
		}
		if err := q.Enter(context.Background(), "bad"); err == nil {
			t.Error("suspects fill the queue")
		}
		enter("good")
		next := func() string {
			q.Leave()
			synctest.Wait()
			return order[len(order)-1]
		}
		if got := next(); got != "good" {
			t.Errorf("%s goes first, want good", got)
		}
		if got := next(); got != "bad" {
			t.Errorf("%s goes after good, want bad", got)
		}
		turns := 0
		for enter("good"); next() == "good"; enter("good") {
			if turns++; turns > 100 {
				t.Fatal("a suspect has no turn while others come")
			}
		}
		if turns < 10 {
			t.Errorf("a suspect had a turn after %d others", turns)
		}
		for q.Waiting() > 0 {
			next()
		}
	})
}

// After one that was suspect the place rests for as long as that took, unless somebody else comes.
func TestFairQueueRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := api.NewFairQueue(1, 40, 40, "bad")
		if err := q.Enter(context.Background(), "bad"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		admitted := make(chan time.Duration, 2)
		enter := func(address string) {
			if err := q.Enter(context.Background(), address); err != nil {
				t.Errorf("%s: %v", address, err)
			}
			admitted <- time.Since(began)
		}
		go enter("bad")
		synctest.Wait()
		q.LeaveAfter(time.Second)
		if got := <-admitted; got != time.Second {
			t.Errorf("the next suspect had its turn after %v, want 1s", got)
		}
		q.LeaveAfter(time.Second)
		began = time.Now()
		enter("good")
		if got := <-admitted; got != 0 {
			t.Errorf("another had its turn after %v, want at once", got)
		}
		q.Leave()
		time.Sleep(time.Minute) // what rested is counted once
		enter("good")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if q.Enter(ctx, "good") == nil {
			t.Error("there are two places")
		}
	})
}
