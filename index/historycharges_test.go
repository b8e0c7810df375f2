package index_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/index"
)

// longKey is a key of n bytes.
func longKey(first string, n int) string { return first + strings.Repeat("k", n-len(first)) }

// chargesOfHistory is what the rows cost, counted one by one. The layout of a row is in doc.go.
func chargesOfHistory(t *testing.T, x *index.Index) (n int64) {
	t.Helper()
	for _, c := range changesOf(t, x) {
		size := 1 + 1 + 8 + 2 + len(c.Key) + 2 + len(c.From) + 1 + len(c.Ref) + 1 + len(c.Before) + 1 + len(c.Cause.Principal) + 1 + len(c.Cause.Address) + 2 + len(c.Cause.Job)
		n += int64(1 + size/index.ChargeSize)
	}
	return n
}

func wantHistoryCharges(t *testing.T, what string, x *index.Index) {
	t.Helper()
	if got, err := x.HistoryCharges(); err != nil || got != chargesOfHistory(t, x) {
		t.Errorf("%s: got %d, %v, want %d", what, got, err, chargesOfHistory(t, x))
	}
}

// TestHistoryCharges: what the history costs is right after each group, also one that failed, after rows were forgotten, and when the index
// was closed.
func TestHistoryCharges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantHistoryCharges(t, "empty", x)
	keys := []string{"a", longKey("b", 600), longKey("c", 4000)}
	for i := range 40 {
		p := putRef(keys[i%3], fmt.Sprintf("ref%d", i), 1)
		p.Now, p.TrashUntil = clock.Add(time.Duration(i)*time.Minute), clock.Add(1000*time.Hour)
		p.Cause = &index.Cause{Principal: "alice", Job: strings.Repeat("j", i*20)}
		apply(t, x, p)
		wantHistoryCharges(t, "put", x)
		again := p
		again.Item.Ref += "again"
		if _, err := x.Apply(background, again, index.Require{Key: "nothing", Ref: "x"}); !errors.Is(err, index.ErrNotFound) {
			t.Fatal(err)
		}
		wantHistoryCharges(t, "a group that failed", x)
		switch i % 10 {
		case 4:
			apply(t, x, index.ForgetChanges{Before: p.Now.Add(-5 * time.Minute), Now: p.Now, Most: 4})
			wantHistoryCharges(t, "forgotten", x)
		case 9:
			mustClose(t, x)
			if x, err = index.Open(path, index.Options{}); err != nil {
				t.Fatal(err)
			}
			wantHistoryCharges(t, "opened again", x)
		}
	}
	apply(t, x, index.ForgetChanges{Before: clock.Add(1000 * time.Hour), Now: clock.Add(1000 * time.Hour), Most: 1000})
	wantHistoryCharges(t, "all forgotten", x)
	checkWhole(t, x)
	mustClose(t, x)
}

// TestMaxHistory: a change is refused whose row the history has no space for, and nothing of its group is left. An item that is there adds to
// that space; exempt items have no rows.
func TestMaxHistory(t *testing.T) {
	x := create(t)
	store := func(key string, i int, most int64) index.Put {
		p := putRef(key, fmt.Sprintf("%s-%d", key[:1], i), 1)
		p.TrashUntil, p.Cause = clock.Add(time.Hour), &index.Cause{MaxHistory: most}
		return p
	}
	most := 3 * int64(index.MaxChangeCharge)
	refused := 0
	for i := range int(most) + 2 {
		if _, err := x.Apply(background, store("a", i, most)); errors.Is(err, index.ErrHistory) && errors.Is(err, index.ErrQuota) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	charges, err := x.HistoryCharges()
	if err != nil || charges != most+1 || refused != 1 {
		t.Errorf("%d charges, %v, refused %d times; want %d and 1: one for the item", charges, err, refused, most+1)
	}
	refuse(t, x, index.ErrHistory, 1, store("b", 0, most+1), store("b", 1, most))
	apply(t, x, index.Put{Key: "one more", Item: index.Item{Ref: "one more"}, Now: clock, Cause: &index.Cause{}})
	refuse(t, x, index.ErrHistory, 0, index.Move{From: "a", To: "c", Limit: -1, Now: clock, Cause: &index.Cause{MaxHistory: most}})
	exempt := store("locks/l", 0, 1)
	exempt.Exempt = true
	apply(t, x, exempt)
	apply(t, x, store("b", 2, 0))
	apply(t, x, index.Delete{Key: "b", Now: clock, TrashUntil: clock.Add(time.Hour), Cause: &index.Cause{}})
	wantHistoryCharges(t, "afterwards", x)
	checkWhole(t, x)
}
