package vger_test

import (
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo"
)

// TestRollbackOverCompaction: a rollback to before a compaction brings back its sources, whether its client has stored the index that ends it
// or not; nothing that is stored afterwards takes them away any more. Its outputs go.
func TestRollbackOverCompaction(t *testing.T) {
	t.Parallel()
	for _, ended := range []bool{false, true} {
		c := newCompaction(t, func(o *setup) {
			o.set.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: 48 * time.Hour} }
		})
		before := c.keys("/r/packs/?list")
		c.pass(time.Minute)
		r := c.repository("r").Repository()
		to := r.Now()
		c.pass(time.Minute)
		c.a.put(lockA, "{}")
		c.a.repackAs(plan(operation(c.key, true, 19, 3)))
		if ended {
			c.a.put("/r/index", "2")
			c.a.delete(lockA)
		}
		if got := c.listed(c.key); got == ended {
			t.Fatalf("ended %v: the source is listed: %v", ended, got)
		}
		plan, err := r.Rollback(t.Context(), repo.RollbackRequest{To: to}, repo.Principal{}, nil)
		if err != nil || plan.Lost > 0 {
			t.Fatalf("ended %v: %+v, %v", ended, plan, err)
		}
		if got := c.keys("/r/packs/?list"); len(got) != len(before) || got[0] != before[0] {
			t.Errorf("ended %v: packs %v, want %v", ended, got, before)
		}
		if got := c.do("GET", "/r/"+c.key, ""); got.status != 200 || got.body != string(packS) {
			t.Errorf("ended %v: the source: %d", ended, got.status)
		}
		if got := c.do("GET", "/r/index", ""); got.body != "1" {
			t.Errorf("ended %v: the index: %q, want 1", ended, got.body)
		}
		if u := c.usage(); u.Plans != 0 || u.KeptItems != 0 {
			t.Errorf("ended %v: %+v, want no open plan and nothing kept", ended, u.Counters)
		}
		c.a.put("/r/index", "3")
		if !c.listed(c.key) {
			t.Errorf("ended %v: the next index takes the source away", ended)
		}
		entry, err := r.Entry(c.key)
		if err != nil || entry.Item.Flags&(index.FlagDamaged|index.FlagMissing) != 0 {
			t.Errorf("ended %v: %+v, %v", ended, entry, err)
		}
	}
}
