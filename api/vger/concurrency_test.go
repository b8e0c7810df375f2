package vger_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"packhouse/repo"
)

const clients = 32

// call is one request as a history records it.
type call struct {
	kind  string
	value string
	bytes int
}

// outcome is what came back.
type outcome struct {
	status int
	body   string
}

// history runs clients at once, each a sequence of calls over the wire, and records when each began and ended.
func history(t *testing.T, n int, client func(i int, do func(call, func() reply))) []porcupine.Operation {
	t.Helper()
	var (
		mu  sync.Mutex
		all []porcupine.Operation
		wg  sync.WaitGroup
	)
	start := time.Now()
	for i := range n {
		wg.Go(func() {
			client(i, func(c call, send func() reply) {
				begin := time.Since(start)
				r := send()
				end := time.Since(start)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, porcupine.Operation{
					ClientId: i, Input: c, Call: int64(begin), Output: outcome{r.status, r.body}, Return: int64(end),
				})
			})
		})
	}
	wg.Wait()
	if most := overlap(all); most < n/4 {
		t.Errorf("of %d clients no more than %d were at work at once: this shows nothing", n, most)
	}
	return all
}

// overlap is how many calls were under way at one moment.
func overlap(all []porcupine.Operation) (most int) {
	for _, a := range all {
		n := 0
		for _, b := range all {
			if b.Call <= a.Call && a.Call < b.Return {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func checkLinearizable(t *testing.T, model porcupine.Model, all []porcupine.Operation) {
	t.Helper()
	if porcupine.CheckOperations(model, all) {
		return
	}
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, o := range all {
		fmt.Fprintf(&b, "%d-%d client %d: %v -> %v\n", o.Call, o.Return, o.ClientId, o.Input, o.Output)
	}
	t.Errorf("history is not linearizable:\n%s", b.String())
}

// register is one key: PUT answers 201 or 204 by what was there, GET what was put last, DELETE whether there was something.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		was, in, out := state.(string), input.(call), output.(outcome)
		switch in.kind {
		case "PUT":
			return out.status == map[bool]int{true: 201, false: 204}[was == ""], in.value
		case "GET":
			if was == "" {
				return out.status == 404, was
			}
			return out.status == 200 && out.body == was, was
		case "DELETE":
			return out.status == map[bool]int{true: 404, false: 204}[was == ""], ""
		}
		return false, was
	},
}

// zone is the time in which a value must have been the register's: from the end of the first call that saw or wrote it to the
// beginning of the last one. If these come the other way round, any moment between them would do.
type zone struct {
	value      string
	end, start int64 // of those two calls
	written    int64 // when its PUT began
}

// checkRegister decides whether calls of PUT, each of a value of its own, and GET are linearizable, however many
// overlap: zones of values must not overlap, and none may lie within another's. before is the value
// at the beginning. Source: Gibbons and Korach, Testing Shared Memories, 1997, section 4.
func checkRegister(before string, all []porcupine.Operation) error {
	zones := map[string]*zone{before: {before, -1, -1, -1}}
	for _, o := range all {
		if in := o.Input.(call); in.kind == "PUT" {
			zones[in.value] = &zone{in.value, o.Return, o.Call, o.Call}
		}
	}
	for _, o := range all {
		if o.Input.(call).kind != "GET" {
			continue
		}
		z := zones[o.Output.(outcome).body]
		if z == nil || o.Return < z.written {
			return fmt.Errorf("client %d read %q, which nobody had written", o.ClientId, o.Output.(outcome).body)
		}
		z.end, z.start = min(z.end, o.Return), max(z.start, o.Call)
	}
	for _, a := range zones {
		for _, b := range zones {
			if a != b && a.end < b.start && b.end < a.start {
				return fmt.Errorf("%+v and %+v were the value at one time", *a, *b)
			}
		}
	}
	return nil
}

// TestCheckRegister: the checker sees stale reads and values that come back, and allows what overlaps.
func TestCheckRegister(t *testing.T) {
	t.Parallel()
	put := func(value string, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: call{kind: "PUT", value: value}, Call: from, Return: to, Output: outcome{status: 204}}
	}
	get := func(value string, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: call{kind: "GET"}, Call: from, Return: to, Output: outcome{200, value}}
	}
	for _, c := range []struct {
		name string
		all  []porcupine.Operation
		good bool
	}{
		{"in turn", []porcupine.Operation{get("0", 1, 2), put("a", 3, 4), get("a", 5, 6), put("b", 7, 8), get("b", 9, 10)}, true},
		{"old while it is written", []porcupine.Operation{put("a", 1, 10), get("0", 2, 3), get("a", 4, 5)}, true},
		{"two at once, either last", []porcupine.Operation{put("a", 1, 10), put("b", 2, 9), get("a", 11, 12)}, true},
		{"unseen between", []porcupine.Operation{put("a", 1, 2), put("b", 3, 6), get("a", 4, 5), get("b", 7, 8)}, true},
		{"stale", []porcupine.Operation{put("a", 1, 2), get("0", 3, 4)}, false},
		{"new, then old", []porcupine.Operation{put("a", 1, 10), get("a", 2, 3), get("0", 4, 5)}, false},
		{"comes back", []porcupine.Operation{put("a", 1, 10), put("b", 2, 9), get("a", 11, 12), get("b", 13, 14), get("a", 15, 16)}, false},
		{"a write got lost", []porcupine.Operation{put("a", 1, 2), put("b", 3, 4), get("a", 5, 6)}, false},
		{"before it was written", []porcupine.Operation{get("a", 1, 2), put("a", 3, 4)}, false},
		{"never written", []porcupine.Operation{get("x", 1, 2)}, false},
	} {
		if err := checkRegister("0", c.all); (err == nil) != c.good {
			t.Errorf("%s: got %v", c.name, err)
		}
		// The general search agrees where it can.
		model := register
		model.Init = func() any { return "0" }
		if porcupine.CheckOperations(model, c.all) != c.good {
			t.Errorf("%s: porcupine disagrees", c.name)
		}
	}
}

// TestClientsOnOneKey: clients write, read and delete one object. The general search for an order of all requests grows
// quickly with how many overlap, so with deletes 32 clients at once are held to what can be counted.
func TestClientsOnOneKey(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.want(201, s.do("POST", "/r?init", ""))
	created, deleted := 0, 0
	for _, o := range history(t, clients, func(i int, do func(call, func() reply)) {
		for j := range 8 {
			value := fmt.Sprintf("%d of client %d", j, i)
			do(call{kind: "PUT"}, func() reply { return s.do("PUT", "/r/manifest", value, "X-Content-BLAKE2b", b2(value)) })
			do(call{kind: "DELETE"}, func() reply { return s.do("DELETE", "/r/manifest", "") })
		}
	}) {
		switch kind, status := o.Input.(call).kind, o.Output.(outcome).status; {
		case kind == "PUT" && status == 201:
			created++
		case kind == "DELETE" && status == 204:
			deleted++
		case kind == "PUT" && status != 204, kind == "DELETE" && status != 404:
			t.Errorf("%s: got %d", kind, status)
		}
	}
	left := len(s.keys("/r?list"))
	if created != deleted+left || created == 0 {
		t.Errorf("created %d times, deleted %d times, %d left", created, deleted, left)
	}
	s.put("/r/keys/k", "nothing yet")
	if err := checkRegister("nothing yet", history(t, clients, func(i int, do func(call, func() reply)) {
		for j := range 8 {
			value := fmt.Sprintf("%d of client %d", j, i)
			do(call{kind: "GET"}, func() reply { return s.want(200, s.do("GET", "/r/keys/k", "")) })
			do(call{kind: "PUT", value: value}, func() reply { return s.want(204, s.do("PUT", "/r/keys/k", value)) })
		}
	})); err != nil {
		t.Errorf("history is not linearizable: %v", err)
	}
	checkLinearizable(t, register, history(t, 4, func(i int, do func(call, func() reply)) {
		for j := range 10 {
			value := fmt.Sprintf("%d of client %d", j, i)
			do(call{kind: "PUT", value: value}, func() reply { return s.do("PUT", "/r/index", value) })
			do(call{kind: "GET"}, func() reply { return s.do("GET", "/r/index", "") })
			if j%4 == 3 {
				do(call{kind: "DELETE"}, func() reply { return s.do("DELETE", "/r/index", "") })
			}
		}
	}))
}

// TestClientsAppendOnly: of 32 clients that store one key in append-only mode the first wins; its bytes may be sent again.
func TestClientsAppendOnly(t *testing.T) {
	t.Parallel()
	s := newServer(t, appendOnly)
	s.want(201, s.do("POST", "/r?init", ""))
	once := porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			was, in, status := state.(string), input.(call), output.(outcome).status
			switch was {
			case "":
				return status == 201, in.value
			case in.value:
				return status == 204, was
			}
			return status == 403, was
		},
	}
	for round := range 4 {
		checkLinearizable(t, once, history(t, clients, func(i int, do func(call, func() reply)) {
			value := fmt.Sprint("content ", i%4)
			do(call{value: value}, func() reply { return s.do("PUT", fmt.Sprintf("/r/snapshots/%d", round), value) })
		}))
	}
}

// ttlModel is one TTL lock: acquired when free or held by the same, refused with the holder's name, released by id.
var ttlModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		held, in, out := state.(string), input.(call), output.(outcome)
		switch in.kind {
		case "acquire":
			if held == "" || held == in.value {
				return out.status == 201, in.value
			}
			return out.status == 409 && out.body == "lock 'repo-lock' already held by "+held, held
		case "release":
			return out.status == map[bool]int{true: 404, false: 204}[held == ""], ""
		case "list":
			var locks []ttlLock
			if json.Unmarshal([]byte(out.body), &locks) != nil || len(locks) > 1 {
				return false, held
			}
			if len(locks) == 0 {
				return held == "", held
			}
			return locks[0].Hostname == held, held
		}
		return false, held
	},
}

// checkHolds decides for any number of clients that acquire a lock and release it when they have got it: no two may have it
// at once, and who is refused must have met the one that is named.
func checkHolds(all []porcupine.Operation) error {
	type hold struct {
		host       string
		call, end  int64 // of acquire
		begin, ret int64 // of release
	}
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var holds []hold
	for _, o := range all {
		switch in := o.Input.(call); {
		case in.kind == "acquire" && o.Output.(outcome).status == 201:
			holds = append(holds, hold{in.value, o.Call, o.Return, math.MaxInt64, math.MaxInt64})
		case in.kind == "release":
			for i := range holds {
				if holds[i].host == in.value && holds[i].ret == math.MaxInt64 {
					holds[i].begin, holds[i].ret = o.Call, o.Return
				}
			}
		}
	}
	for i, a := range holds {
		for _, b := range holds[i+1:] {
			if a.end < b.begin && b.end < a.begin {
				return fmt.Errorf("held by two: %+v, %+v", a, b)
			}
		}
	}
	refused := 0
	for _, o := range all {
		out := o.Output.(outcome)
		if o.Input.(call).kind != "acquire" || out.status == 201 {
			continue
		}
		refused++
		if !slices.ContainsFunc(holds, func(h hold) bool {
			return out.body == "lock 'repo-lock' already held by "+h.host && h.call < o.Return && o.Call < h.ret
		}) {
			return fmt.Errorf("%+v was refused by nobody who had the lock: %+v", o, holds)
		}
	}
	if len(holds) < 2 || refused == 0 {
		return fmt.Errorf("%d had the lock, %d were refused: this shows nothing", len(holds), refused)
	}
	return nil
}

// TestClientsOnTTLLock: of 32 clients that want one TTL lock one gets it, again and again; fewer clients acquire, release
// and look at it in any order.
func TestClientsOnTTLLock(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/config", configOf(1, "none"))
	act := func(random *rand.Rand, host string, do func(call, func() reply)) {
		c := call{kind: []string{"acquire", "acquire", "release", "list"}[random.IntN(4)], value: host}
		do(c, func() reply {
			switch c.kind {
			case "acquire":
				return s.acquire("repo-lock", holder(c.value, 1))
			case "release":
				return s.do("DELETE", "/r/locks/repo-lock", "")
			}
			return s.do("GET", "/r/locks", "")
		})
	}
	for round := range 8 {
		s.do("DELETE", "/r/locks/repo-lock", "")
		won := 0
		for _, o := range history(t, clients, func(i int, do func(call, func() reply)) {
			do(call{}, func() reply { return s.acquire("repo-lock", holder(fmt.Sprint("host", i), round)) })
		}) {
			if o.Output.(outcome).status == 201 {
				won++
			}
		}
		if won != 1 {
			t.Errorf("round %d: %d of %d clients got the lock", round, won, clients)
		}
	}
	s.do("DELETE", "/r/locks/repo-lock", "")
	if err := checkHolds(history(t, clients, func(i int, do func(call, func() reply)) {
		host := fmt.Sprint("host", i)
		for range 8 {
			got := false
			do(call{kind: "acquire", value: host}, func() reply {
				r := s.acquire("repo-lock", holder(host, 1))
				got = r.status == 201
				return r
			})
			if got {
				do(call{kind: "release", value: host}, func() reply { return s.want(204, s.do("DELETE", "/r/locks/repo-lock", "")) })
			}
		}
	})); err != nil {
		t.Error(err)
	}
	checkLinearizable(t, ttlModel, history(t, 4, func(i int, do func(call, func() reply)) {
		random := rand.New(rand.NewPCG(9, uint64(i)))
		for range 25 {
			act(random, fmt.Sprint("host", i), do)
		}
	}))
}

// TestClientsOnLockObjects: a list shows every object whose PUT was answered, and none whose DELETE was.
func TestClientsOnLockObjects(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/config", configOf(2, "none"))
	directory := porcupine.Model{
		Init: func() any { return "[]" },
		Step: func(state, input, output any) (bool, any) {
			var keys []string
			if err := json.Unmarshal([]byte(state.(string)), &keys); err != nil {
				return false, state
			}
			in, out := input.(call), output.(outcome)
			i, found := slices.BinarySearch(keys, in.value)
			switch in.kind {
			case "PUT":
				if !found {
					keys = slices.Insert(keys, i, in.value)
				}
				return out.status == 201, quoted(keys...)
			case "DELETE":
				if found {
					keys = slices.Delete(keys, i, i+1)
				}
				return out.status == 204, quoted(keys...)
			}
			return out.body == state, state
		},
	}
	checkLinearizable(t, directory, history(t, 8, func(i int, do func(call, func() reply)) {
		for j := range 4 {
			own := lockAt(time.UnixMicro(int64(1e15)+int64(j)), "0123456789abcdef"[i])
			do(call{kind: "PUT", value: own}, func() reply { return s.do("PUT", "/r/"+own, "{}") })
			do(call{kind: "list"}, func() reply { return s.do("GET", "/r/locks/?list", "") })
			do(call{kind: "DELETE", value: own}, func() reply { return s.do("DELETE", "/r/"+own, "") })
		}
	}))
}

// TestBothKindsOfLocks: four clients with TTL locks and one with lock objects, whose clock is wrong, by their own
// algorithms: at no moment do two of them hold the repository. (Among themselves object clients with
// different clocks have a hole that no server can mend: a smaller key may come later.)
func TestBothKindsOfLocks(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{-time.Hour, 0, time.Hour} {
		s := newServer(t, nil)
		s.put("/r/config", configOf(1, "none"))
		var holders atomic.Int32
		var byTTL, byObject atomic.Int32
		hold := func(count *atomic.Int32) {
			if n := holders.Add(1); n > 1 {
				t.Errorf("%d clients hold the repository", n)
			}
			count.Add(1)
			time.Sleep(time.Millisecond)
			holders.Add(-1)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := 0; n < 10 || byTTL.Load() == 0; n++ {
					if s.acquire("repo-lock", holder(fmt.Sprint("ttl", i), i)).status == 201 {
						hold(&byTTL)
						s.want(204, s.do("DELETE", "/r/locks/repo-lock", ""))
					}
				}
			})
		}
		for n := 0; n < 20 || byObject.Load() == 0; n++ {
			at := time.Now().Add(wrong)
			own := lockAt(at, 'a')
			s.put("/r/"+own, document("object", at))
			if keys := s.keys("/r/locks/?list"); keys[0] == own {
				hold(&byObject)
			}
			s.want(204, s.do("DELETE", "/r/"+own, ""))
		}
		wg.Wait()
		if byTTL.Load() == 0 || byObject.Load() == 0 {
			t.Errorf("clock %v: TTL clients held it %d times, the object client %d times", wrong, byTTL.Load(), byObject.Load())
		}
	}
}

// TestClientsOnQuota: clients fill and empty a small repository: who is refused would not have fitted, and
// the limit holds at every moment, for 32 of them too.
func TestClientsOnQuota(t *testing.T) {
	t.Parallel()
	const limit = 200
	s := newServer(t, func(c *setup) {
		c.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: limit} }
	})
	s.want(201, s.do("POST", "/r?init", ""))
	usage := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, output any) (bool, any) {
			used, in, status := state.(int), input.(call), output.(outcome).status
			switch {
			case in.kind == "DELETE":
				return status == 204, used - in.bytes
			case used+in.bytes <= limit:
				return status == 201, used + in.bytes
			}
			return status == 413, used
		},
	}
	fillAndEmpty := func(times int) func(int, func(call, func() reply)) {
		return func(i int, do func(call, func() reply)) {
			key, body := fmt.Sprintf("/r/keys/%d", i), strings.Repeat("x", 60)
			for range times {
				stored := false
				do(call{kind: "PUT", bytes: len(body)}, func() reply {
					r := s.do("PUT", key, body)
					stored = r.status == 201
					return r
				})
				if u := s.repository("r").Repository().Usage(); u.Used+u.Reserved > limit {
					t.Errorf("used %d, reserved %d, limit %d", u.Used, u.Reserved, limit)
				}
				if stored {
					do(call{kind: "DELETE", bytes: len(body)}, func() reply { return s.do("DELETE", key, "") })
				}
			}
		}
	}
	checkLinearizable(t, usage, history(t, 5, fillAndEmpty(10)))
	all := history(t, clients, fillAndEmpty(6))
	// The search may not end in time with so many at once; what it finds is sound.
	if porcupine.CheckOperationsTimeout(usage, all, 5*time.Second) == porcupine.Illegal {
		t.Error("the history of 32 clients is not linearizable")
	}
	if !slices.ContainsFunc(all, func(o porcupine.Operation) bool { return o.Output.(outcome).status == 201 }) ||
		!slices.ContainsFunc(all, func(o porcupine.Operation) bool { return o.Output.(outcome).status == 413 }) {
		t.Error("32 clients should meet both success and the limit")
	}
	if u := s.repository("r").Repository().Usage(); u.Used != 0 || u.Reserved != 0 {
		t.Errorf("everything is deleted, but used %d, reserved %d", u.Used, u.Reserved)
	}
}
