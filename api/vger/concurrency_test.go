package vger_test

import (
	"encoding/json"
	"fmt"
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
	return all
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

// TestClientsOnOneKey: clients write, read and delete one object. The search for an order of all requests grows
// quickly with how many overlap, so 32 clients at once are held to what can be counted.
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

// TestClientsOnTTLLock: of 32 clients that want one TTL lock one gets it; fewer clients acquire, release and look at it
// many times.
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
	checkLinearizable(t, directory, history(t, 12, func(i int, do func(call, func() reply)) {
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
	if !slices.ContainsFunc(all, func(o porcupine.Operation) bool { return o.Output.(outcome).status == 201 }) ||
		!slices.ContainsFunc(all, func(o porcupine.Operation) bool { return o.Output.(outcome).status == 413 }) {
		t.Error("32 clients should meet both success and the limit")
	}
	if u := s.repository("r").Repository().Usage(); u.Used != 0 || u.Reserved != 0 {
		t.Errorf("everything is deleted, but used %d, reserved %d", u.Used, u.Reserved)
	}
}
