package index_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"packhouse/index"
)

func TestLocks(t *testing.T) {
	x := create(t)
	at := func(d time.Duration) time.Time { return clock.Add(d) }
	acquire := func(id, holder string, now, ttl time.Duration) index.AcquireLock {
		return index.AcquireLock{ID: id, Holder: holder, Data: []byte(holder + "'s"), TTL: ttl, Now: at(now)}
	}
	want := index.Lock{ID: "l", Holder: "alice", Data: []byte("alice's"), Acquired: clock, Since: clock, TTL: time.Minute}
	equal(t, "acquired", apply(t, x, acquire("l", "alice", 0, time.Minute))[0].Lock, &want)

	equal(t, "holder", refuse(t, x, index.ErrLocked, 0, acquire("l", "bob", time.Minute, time.Hour)).Lock, &want)

	want.Acquired, want.TTL = at(30*time.Second), 2*time.Minute
	equal(t, "renewed", apply(t, x, acquire("l", "alice", 30*time.Second, 2*time.Minute))[0].Lock, &want)
	got, err := x.Lock("l")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "read", got, want)

	// Held up to and at the end of the TTL, free a microsecond later.
	end := 30*time.Second + 2*time.Minute
	refuse(t, x, index.ErrLocked, 0, acquire("l", "bob", end, time.Minute))
	apply(t, x, index.ExpireLocks{Now: at(end)})
	taken := apply(t, x, acquire("l", "bob", end+time.Microsecond, time.Minute))[0].Lock
	equal(t, "taken over since", taken.Since, at(end+time.Microsecond))

	equal(t, "release by another", refuse(t, x, index.ErrLocked, 0, index.ReleaseLock{ID: "l", Holder: "alice"}).Lock.Holder, "bob")
	apply(t, x, index.ReleaseLock{ID: "l", Holder: "bob"})
	if _, err := x.Lock("l"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("released lock: got %v, want %v", err, index.ErrNotFound)
	}

	apply(t, x, acquire("short", "a", 0, time.Second), acquire("long", "a", 0, time.Hour), acquire("none", "a", 0, 0))
	apply(t, x, index.ReleaseLock{ID: "none"})
	apply(t, x, index.ExpireLocks{Now: at(time.Minute)})
	locks, err := x.Locks()
	if err != nil {
		t.Fatal(err)
	}
	if len(locks) != 1 || locks[0].ID != "long" {
		t.Errorf("after expiry: got %+v, want long alone", locks)
	}
}

// What has ended was not held without a break, whoever takes it next.
func TestLockTakenAgainBeginsAnew(t *testing.T) {
	x := create(t)
	lock := index.AcquireLock{ID: "l", Holder: "alice", TTL: time.Minute, Now: clock}
	apply(t, x, lock)
	lock.Now = clock.Add(time.Minute)
	equal(t, "renewed at its end", apply(t, x, lock)[0].Lock.Since, clock)
	lock.Now = clock.Add(2*time.Minute + time.Microsecond)
	equal(t, "taken after its end", apply(t, x, lock)[0].Lock.Since, lock.Now)
}

// Locks are outside of the quota: without a bound they are a way around it.
func TestLocksAreBounded(t *testing.T) {
	const most = 1000
	x := create(t)
	lock := func(i int, now time.Time) index.AcquireLock {
		return index.AcquireLock{ID: fmt.Sprintf("l%d", i), Holder: "alice", TTL: time.Minute, Now: now}
	}
	var all []index.Mutation
	for i := range most {
		all = append(all, lock(i, clock))
	}
	apply(t, x, all...)
	refuse(t, x, index.ErrQuota, 0, lock(most, clock.Add(time.Minute)))
	apply(t, x, lock(0, clock.Add(time.Minute))) // those that are there can be renewed

	// The ended ones are removed, and do not stay in the file.
	apply(t, x, lock(most, clock.Add(90*time.Second)))
	locks, err := x.Locks()
	if err != nil {
		t.Fatal(err)
	}
	if len(locks) != 2 || locks[0].ID != "l0" || locks[1].ID != fmt.Sprintf("l%d", most) {
		t.Errorf("after expiry: got %d locks, want the renewed and the new one", len(locks))
	}
}

// A clock that was ahead and is put right must not keep a lock for as long as it was ahead: nobody
// could write until then. How much of the TTL has passed is not known then; none of it is safe.
func TestLockOfTheFuture(t *testing.T) {
	x := create(t)
	at := func(d time.Duration) time.Time { return clock.Add(d) }
	const year = 365 * 24 * time.Hour
	lock := func(id string, now time.Duration) index.AcquireLock {
		return index.AcquireLock{ID: id, Holder: "alice", TTL: time.Hour, Now: at(now)}
	}
	apply(t, x, lock("ahead", year), lock("close", 30*time.Second), lock("now", 0))
	apply(t, x, index.ExpireLocks{Now: clock})
	want := []index.Lock{
		{ID: "ahead", Holder: "alice", Acquired: clock, Since: at(year), TTL: time.Hour},
		{ID: "close", Holder: "alice", Acquired: at(30 * time.Second), Since: at(30 * time.Second), TTL: time.Hour},
		{ID: "now", Holder: "alice", Acquired: clock, Since: clock, TTL: time.Hour},
	}
	locks, err := x.Locks()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "locks", locks, want)
	bob := index.AcquireLock{ID: "ahead", Holder: "bob", TTL: time.Hour}
	bob.Now = at(time.Hour)
	refuse(t, x, index.ErrLocked, 0, bob)
	bob.Now = at(time.Hour + time.Microsecond)
	apply(t, x, bob)
}
