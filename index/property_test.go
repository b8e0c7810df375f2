package index_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"packhouse/index"
)

// model is an index as one would write it without a disk: maps and loops.
type model struct {
	items map[string]index.Item
	dirs  map[string]bool
	trash map[string]index.Removed // by ID
	locks map[string]index.Lock
	plans map[uint64]int64     // what counted when each began
	kept  map[string]modelKept // by key
	order int                  // of what was kept
	mark  int64                // of modelClass; negative: none yet
	began int64                // what counted when the group began
}

// unit makes of the small numbers that are drawn sizes that meet CommitBound.
const unit = 4 << 20

var modelClass = index.CommitClass{Keys: []string{"b", "a!/b"}, Dirs: []string{"a", "a0"}}

// modelKept is what is kept, with its place among those that expire at the same time.
type modelKept struct {
	index.Kept
	order int
}

func newModel() *model {
	return &model{
		items: map[string]index.Item{}, dirs: map[string]bool{}, trash: map[string]index.Removed{}, locks: map[string]index.Lock{},
		plans: map[uint64]int64{}, kept: map[string]modelKept{}, mark: -1,
	}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.items), maps.Clone(m.dirs), maps.Clone(m.trash), maps.Clone(m.locks), maps.Clone(m.plans), maps.Clone(m.kept), m.order, m.mark, m.began}
}

// sources are the keys of a plan's sources, sorted.
func (m *model) sources(id uint64) (keys []string) {
	for key, item := range m.items {
		if item.Plan == id {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// closePlans forgets the plans without sources.
func (m *model) closePlans() {
	maps.DeleteFunc(m.plans, func(id uint64, _ int64) bool { return len(m.sources(id)) == 0 })
}

func bare(item index.Item) index.Item {
	item.Plan, item.Found = 0, time.Time{}
	item.Flags &^= index.FlagReturned | index.FlagMissing
	return item
}

func (m *model) keep(key string, now, until time.Time, proven bool, by string) {
	m.order++
	m.kept[key] = modelKept{index.Kept{Removed: index.Removed{Key: key, Item: bare(m.items[key]), At: now, Expires: until}, Proven: proven, By: by}, m.order}
	delete(m.items, key)
}

// release makes a row in the trash whose ID nobody is told.
func (m *model) release(key string, now time.Time) {
	if k, ok := m.kept[key]; ok {
		k.Removed.ID, k.Removed.At, k.Removed.Expires = "of ref "+k.Item.Ref, k.At, now
		m.trash[k.Removed.ID] = k.Removed
		delete(m.kept, key)
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (m *model) giveBack(key string) error {
	item := m.kept[key].Item
	item.Flags |= index.FlagReturned
	delete(m.kept, key)
	return m.attach(key, item, time.Time{}, time.Time{})
}

// oldestKept are the keys of what is kept in the order in which it goes.
func (m *model) oldestKept() []string {
	return slices.SortedFunc(maps.Keys(m.kept), func(a, b string) int {
		x, y := m.kept[a], m.kept[b]
		return cmp.Or(x.Expires.Compare(y.Expires), cmp.Compare(x.order, y.order))
	})
}

func (m *model) counters() (c index.Counters) {
	for _, item := range m.items {
		c.Items++
		c.Bytes += item.Size
		if item.Flags&index.FlagDamaged != 0 && item.Flags&index.FlagMissing == 0 {
			c.DamagedItems++
		}
		switch {
		case item.Flags&index.FlagMissing != 0:
			c.MissingItems++
			c.MissingBytes += item.Size
		case item.Flags&index.FlagExempt != 0:
			c.Exempt += item.Size
		case item.Plan != 0:
			c.OpenBytes += item.Size
		case item.Flags&index.FlagReturned != 0:
			c.ReturnedBytes += item.Size
		}
	}
	for _, k := range m.kept {
		c.KeptItems++
		c.KeptBytes += k.Item.Size
	}
	c.Plans = int64(len(m.plans))
	for _, r := range m.trash {
		c.TrashItems++
		c.TrashBytes += r.Item.Size
	}
	return c
}

func (m *model) refUsed(ref string) bool {
	for _, item := range m.items {
		if item.Ref == ref {
			return true
		}
	}
	for _, r := range m.trash {
		if r.Item.Ref == ref {
			return true
		}
	}
	for _, k := range m.kept {
		if k.Item.Ref == ref {
			return true
		}
	}
	return false
}

func (m *model) mkdir(key string) error {
	var path []string
	for _, name := range strings.Split(key, "/") {
		path = append(path, name)
		if _, ok := m.items[strings.Join(path, "/")]; ok {
			return index.ErrNotDir
		}
	}
	for i := range path {
		m.dirs[strings.Join(path[:i+1], "/")] = true
	}
	return nil
}

func (m *model) attach(key string, item index.Item, now, until time.Time) error {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		if err := m.mkdir(key[:i]); err != nil {
			return err
		}
	}
	m.release(key, latest(now, until))
	m.items[key] = item
	return nil
}

// discard takes the ID that the index chose: it is not for the model to say. In a
// group that fails there is none, and its trash will be forgotten.
func (m *model) discard(key, id string, now, until time.Time) {
	if id == "" {
		id = fmt.Sprintf("of a failed group, %d", len(m.trash))
	}
	if item, ok := m.items[key]; ok {
		if item.Flags&index.FlagExempt != 0 {
			until = now
		}
		m.trash[id] = index.Removed{ID: id, Key: key, Item: bare(item), At: now, Expires: until}
		delete(m.items, key)
	}
}

func (m *model) overLimit(item index.Item, limit int64) bool {
	c := m.counters()
	return limit >= 0 && item.Flags&index.FlagExempt == 0 && c.Counted() > limit
}

// commitTotal is what the items of modelClass hold; what is exempt is taken to be among them.
func (m *model) commitTotal() (n int64) {
	for key, item := range m.items {
		switch {
		case slices.Contains(modelClass.Keys, key):
			n += item.Counted()
		case modelClass.Has(key) && item.Flags&index.FlagMissing == 0:
			n += item.Size
		}
	}
	return max(0, n-m.counters().Exempt)
}

// markOr is the mark, or what begins one.
func (m *model) markOr() int64 {
	if m.mark < 0 {
		return m.commitTotal()
	}
	return m.mark
}

// admits tells whether a Put is within its limit, or beyond it as it may be, and raises the mark; mark is from before it.
func (m *model) admits(mut index.Put, item index.Item, mark int64) bool {
	within, total := !m.overLimit(item, mut.Limit), m.commitTotal()
	allowed := within || m.counters().Counted() <= m.began || mut.Commit != nil && total <= max(64<<20, 2*mark)
	if mut.Commit == nil || !allowed {
		return allowed
	}
	m.mark = mark
	if within && !mut.Exempt {
		m.mark = max(mark, total)
	}
	return true
}

// giveWay removes the directory at key and those below it, if there is no item among them; false: there is.
func (m *model) giveWay(key string) bool {
	if !m.dirs[key] {
		return true
	}
	for other := range m.items {
		if strings.HasPrefix(other, key+"/") {
			return false
		}
	}
	maps.DeleteFunc(m.dirs, func(dir string, _ bool) bool { return dir == key || strings.HasPrefix(dir, key+"/") })
	return true
}

// apply is one mutation. r is what the index returned, or zero when it failed.
func (m *model) apply(mut index.Mutation, r index.Result) error {
	switch mut := mut.(type) {
	case index.Put:
		old, exists := m.items[mut.Key]
		switch {
		case !m.giveWay(mut.Key):
			return index.ErrIsDir
		case mut.IfAbsent && exists:
			return index.ErrExists
		case mut.IfRef != "" && mut.IfRef != old.Ref:
			return index.ErrConflict
		case m.refUsed(mut.Item.Ref):
			return index.ErrRefUsed
		}
		item, mark := mut.Item, m.markOr()
		item.Created, item.Modified = mut.Now, mut.Now
		if exists {
			item.Created = old.Created
			if !mut.Exempt && old.Flags&index.FlagExempt == 0 && (old.Plan != 0 || old.Flags&index.FlagReturned != 0) && old.Size > 0 && old.Size == item.Size {
				item.Flags |= index.FlagReturned
			}
		}
		switch {
		case mut.Exempt:
			item.Flags |= index.FlagExempt
		case mut.Uncounted:
			item.Flags |= index.FlagReturned
		}
		m.discard(mut.Key, r.TrashID, mut.Now, mut.TrashUntil)
		if err := m.attach(mut.Key, item, mut.Now, mut.TrashUntil); err != nil {
			return err
		}
		if !m.admits(mut, item, mark) {
			return index.ErrQuota
		}
	case index.MarkCommit:
		mark := m.markOr()
		if m.mark = mark; !m.overLimit(index.Item{}, mut.Limit) {
			m.mark = max(mark, m.commitTotal())
		}
	case index.Delete:
		old, exists := m.items[mut.Key]
		switch {
		case m.dirs[mut.Key]:
			return index.ErrIsDir
		case !exists && !mut.Keep && mut.IfRef == "" && m.kept[mut.Key].Key != "":
			m.release(mut.Key, mut.TrashUntil)
			return nil
		case !exists && mut.IgnoreMissing:
			return nil
		case !exists:
			return index.ErrNotFound
		case mut.IfRef != "" && mut.IfRef != old.Ref:
			return index.ErrConflict
		case !mut.IfBefore.IsZero() && (!old.Modified.Before(mut.IfBefore) || !old.Found.Before(mut.IfBefore)):
			return nil
		case mut.Keep:
			m.keep(mut.Key, mut.Now, mut.TrashUntil, false, mut.By)
			return nil
		}
		m.discard(mut.Key, r.TrashID, mut.Now, mut.TrashUntil)
	case index.OpenPlan:
		before := m.counters()
		bound := before.Counted()
		if len(m.plans) > 0 {
			bound = m.plans[slices.Min(slices.Collect(maps.Keys(m.plans)))]
		}
		sources := slices.Clone(mut.Sources)
		slices.SortFunc(sources, index.CompareKeys)
		for _, key := range sources {
			item, ok := m.items[key]
			switch {
			case m.dirs[key]:
				return index.ErrIsDir
			case !ok:
				return index.ErrNotFound
			}
			item.Plan = r.Plan
			if r.Plan == 0 { // the group fails, or fails to tell
				item.Plan = 1 << 60
			}
			m.items[key] = item
		}
		// What has returned and is exempt is counted otherwise, and so not here.
		after := m.counters()
		if len(mut.Sources) > 0 && mut.Limit >= 0 && after.OpenBytes+after.ReturnedBytes > max(bound, mut.Limit) && after.OpenBytes+after.ReturnedBytes > before.OpenBytes+before.ReturnedBytes {
			return index.ErrQuota
		}
		if len(mut.Sources) > 0 {
			m.plans[m.items[mut.Sources[0]].Plan] = before.Counted()
		}
	case index.ProvePlan:
		for _, key := range m.sources(mut.ID) {
			if mut.ID != 0 {
				m.keep(key, mut.Now, mut.Until, true, "")
			}
		}
	case index.EndPlans:
		for key, item := range m.items {
			item.Plan = 0
			m.items[key] = item
		}
		for _, key := range m.oldestKept() {
			m.release(key, mut.Now)
		}
	case index.ReturnKept:
		switch {
		case m.dirs[mut.Key]:
			return index.ErrIsDir
		case m.kept[mut.Key].Key == "":
			return index.ErrNotFound
		}
		return m.giveBack(mut.Key)
	case index.ReturnSince:
		for _, key := range m.oldestKept() {
			k := m.kept[key]
			if (k.Proven || k.By != mut.Except) && !k.At.Before(mut.Since) && !m.dirs[key] && m.clone().giveBack(key) == nil {
				if err := m.giveBack(key); err != nil {
					return err
				}
			}
		}
	case index.ReleaseKept:
		bytes := int64(0)
		for i, key := range m.oldestKept() {
			k := m.kept[key]
			if i == mut.Most || k.Expires.After(mut.Now) && bytes >= mut.Bytes {
				break
			}
			bytes += k.Item.Size
			until := mut.Now
			if mut.Grace > 0 {
				until = latest(until, k.At.Add(mut.Grace))
			}
			m.release(key, until)
		}
	case index.Found:
		item, ok := m.items[mut.Key]
		switch {
		case !ok:
			return index.ErrNotFound
		case item.Ref != mut.Ref:
			return index.ErrConflict
		}
		item.Found = mut.Now
		if item.Plan != 0 {
			item.Plan = 0
			item.Flags |= index.FlagReturned
		}
		m.items[mut.Key] = item
	case index.Move:
		item, exists := m.items[mut.From]
		_, there := m.items[mut.To]
		switch {
		case m.dirs[mut.From]:
			return index.ErrIsDir
		case !exists:
			return index.ErrNotFound
		case mut.From == mut.To:
			return nil
		case !m.giveWay(mut.To):
			return index.ErrIsDir
		case there && mut.IfAbsent:
			return index.ErrExists
		}
		m.discard(mut.To, r.TrashID, mut.Now, mut.TrashUntil)
		before := item.Counted()
		if !mut.Exempt {
			item.Flags &^= index.FlagExempt
		}
		if err := m.attach(mut.To, item, mut.Now, mut.TrashUntil); err != nil {
			return err
		}
		delete(m.items, mut.From)
		leaves := mut.Commit != nil && modelClass.Has(mut.From) && !modelClass.Has(mut.To) && item.Counted() > 0
		if (item.Counted() > before || leaves) && m.overLimit(item, mut.Limit) {
			return index.ErrQuota
		}
	case index.Require:
		if item, ok := m.items[mut.Key]; !ok {
			return index.ErrNotFound
		} else if item.Ref != mut.Ref {
			return index.ErrConflict
		}
	case index.SetFlags:
		item, ok := m.items[mut.Key]
		if !ok || item.Ref != mut.Ref {
			return index.ErrConflict
		}
		item.Flags = item.Flags&^mut.Clear | mut.Set
		m.items[mut.Key] = item
	case index.MakeDir:
		return m.mkdir(mut.Key)
	case index.RemoveDir:
		if _, ok := m.items[mut.Key]; ok {
			return index.ErrNotDir
		}
		if !m.dirs[mut.Key] {
			return index.ErrNotFound
		}
		for _, keys := range [][]string{slices.Collect(maps.Keys(m.items)), slices.Collect(maps.Keys(m.dirs))} {
			for _, key := range keys {
				if strings.HasPrefix(key, mut.Key+"/") {
					return index.ErrNotEmpty
				}
			}
		}
		delete(m.dirs, mut.Key)
	case index.Restore:
		row, ok := m.trash[mut.ID]
		if !ok || row.Expires.Before(mut.Now) {
			return index.ErrNotFound
		}
		key := mut.Key
		if key == "" {
			key = row.Key
		}
		if _, ok := m.items[key]; ok {
			return index.ErrExists
		}
		if !m.giveWay(key) {
			return index.ErrIsDir
		}
		delete(m.trash, mut.ID)
		if !mut.Exempt {
			row.Item.Flags &^= index.FlagExempt
		}
		if err := m.attach(key, row.Item, mut.Now, mut.TrashUntil); err != nil {
			return err
		}
		if m.overLimit(row.Item, mut.Limit) {
			return index.ErrQuota
		}
	case index.PurgeTrash:
		for _, id := range mut.IDs {
			delete(m.trash, id)
		}
	case index.AcquireLock:
		l, ok := m.locks[mut.ID]
		since := mut.Now
		if ok && mut.Now.Sub(l.Acquired) <= l.TTL {
			if l.Holder != mut.Holder {
				return index.ErrLocked
			}
			since = l.Since
		}
		m.locks[mut.ID] = index.Lock{ID: mut.ID, Holder: mut.Holder, Acquired: mut.Now, Since: since, TTL: mut.TTL}
	case index.ReleaseLock:
		l, ok := m.locks[mut.ID]
		if !ok {
			return index.ErrNotFound
		}
		if mut.Holder != "" && mut.Holder != l.Holder {
			return index.ErrLocked
		}
		delete(m.locks, mut.ID)
	case index.ExpireLocks:
		maps.DeleteFunc(m.locks, func(_ string, l index.Lock) bool { return mut.Now.Sub(l.Acquired) > l.TTL })
	}
	return nil
}

// compare holds the whole of the index against the model.
func (m *model) compare(t *rapid.T, x *index.Index) {
	if got, want := x.Counters(), m.counters(); got != want {
		t.Fatalf("counters: got %+v, want %+v", got, want)
	}
	// The order of a listing: names compared one by one, from the root.
	byName := func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) }
	var got []string
	err := x.List(background, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		got = append(got, e.Key)
		if want := m.items[e.Key]; fmt.Sprint(e.Item) != fmt.Sprint(want) {
			t.Fatalf("item %q: got %+v, want %+v", e.Key, e.Item, want)
		}
		if key, ok, err := x.HasRef(e.Item.Ref); key != "" || !ok || err != nil { // of a file: the key is not known
			t.Fatalf("ref of %q: got %q, %v, %v", e.Key, key, ok, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.SortedFunc(maps.Keys(m.items), byName); !slices.Equal(got, want) {
		t.Fatalf("items: got %q, want %q", got, want)
	}
	keys := append(slices.Collect(maps.Keys(m.items)), slices.Collect(maps.Keys(m.dirs))...)
	slices.SortFunc(keys, byName)
	for _, dir := range append(slices.Collect(maps.Keys(m.dirs)), "") {
		var got, want []string
		err := x.List(background, index.ListOptions{Dir: dir}, func(e index.Entry) error { got = append(got, label(e)); return nil })
		if err != nil {
			t.Fatalf("list %q: %v", dir, err)
		}
		prefix := dir + "/"
		if dir == "" {
			prefix = ""
		}
		for _, key := range keys {
			if rest, ok := strings.CutPrefix(key, prefix); ok && !strings.Contains(rest, "/") {
				if m.dirs[key] {
					key += "/"
				}
				want = append(want, key)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("directory %q: got %q, want %q", dir, got, want)
		}
	}
	rows := 0
	err = x.Trash(time.Time{}, func(r index.Removed) error {
		rows++
		want, ok := m.trash[r.ID]
		if !ok {
			want = m.trash["of ref "+r.Item.Ref]
			want.ID = r.ID
		}
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Fatalf("trash %s: got %+v, want %+v", r.ID, r, want)
		}
		return nil
	})
	if err != nil || rows != len(m.trash) {
		t.Fatalf("trash: got %d rows, %v, want %d", rows, err, len(m.trash))
	}
	var keys2 []string
	err = x.EachKept(func(k index.Kept) error {
		keys2 = append(keys2, k.Key)
		want := m.kept[k.Key].Kept
		want.ID = k.ID
		if fmt.Sprint(k) != fmt.Sprint(want) {
			t.Fatalf("kept: got %+v, want %+v", k, want)
		}
		if same, err := x.Kept(k.Key); err != nil || fmt.Sprint(same) != fmt.Sprint(k) {
			t.Fatalf("kept %q: got %+v, %v", k.Key, same, err)
		}
		return nil
	})
	if err != nil || !slices.Equal(keys2, m.oldestKept()) {
		t.Fatalf("kept: got %q, %v, want %q", keys2, err, m.oldestKept())
	}
	plans := 0
	err = x.Plans(func(p index.Plan) error {
		plans++
		if sources := m.sources(p.ID); int64(len(sources)) != p.Sources || p.Live != m.plans[p.ID] {
			t.Fatalf("plan: got %+v, want sources %q and %d bytes when it began", p, sources, m.plans[p.ID])
		}
		return nil
	})
	if err != nil || plans != len(m.plans) {
		t.Fatalf("plans: got %d, %v, want %+v", plans, err, m.plans)
	}
	locks, err := x.Locks()
	if err != nil || len(locks) != len(m.locks) {
		t.Fatalf("locks: got %+v, %v, want %+v", locks, err, m.locks)
	}
	for _, l := range locks {
		if want := m.locks[l.ID]; fmt.Sprint(l) != fmt.Sprint(want) {
			t.Fatalf("lock: got %+v, want %+v", l, want)
		}
	}
	total, mark, err := x.CommitTotal(modelClass)
	if err != nil || total != m.commitTotal() || mark != m.markOr() {
		t.Fatalf("commit class: got %d bytes, mark %d, %v, want %d and %d", total, mark, err, m.commitTotal(), m.markOr())
	}
	report, err := x.Check(background)
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("check: %q, %v", report.Problems, err)
	}
}

// generator draws mutations that often meet each other: few keys, few refs.
type generator struct {
	now time.Time
	ids []string // trash rows there have been
}

func (g *generator) draw(t *rapid.T) index.Mutation {
	g.now = g.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "minutes")) * time.Minute)
	key := func() string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a!", "a0"}), 1, 3).Draw(t, "key"), "/")
	}
	ref := func() string { return fmt.Sprintf("r%d", rapid.IntRange(0, 30).Draw(t, "ref")) }
	maybeRef := func() string {
		if rapid.IntRange(0, 4).Draw(t, "if ref") == 0 {
			return ref()
		}
		return ""
	}
	limit := func() int64 {
		return rapid.SampledFrom([]int64{-1, -1, 100 * unit, 30 * unit, 8 * unit}).Draw(t, "limit")
	}
	flag := func(name string) bool { return rapid.IntRange(0, 4).Draw(t, name) == 0 }
	id := func() string {
		if len(g.ids) == 0 {
			return "none"
		}
		return rapid.SampledFrom(g.ids).Draw(t, "id")
	}
	until := g.now.Add(time.Hour)
	class := func(key string) *index.CommitClass {
		if !modelClass.Has(key) || flag("no class") {
			return nil
		}
		return &modelClass
	}
	switch rapid.IntRange(0, 23).Draw(t, "mutation") {
	case 0, 1, 2, 3:
		item := index.Item{Size: unit * rapid.Int64Range(0, 20).Draw(t, "size"), Ref: ref()}
		m := index.Put{Key: key(), Item: item, IfAbsent: flag("absent"), IfRef: maybeRef(), Limit: limit(), Exempt: flag("exempt"), Uncounted: flag("uncounted"), Now: g.now, TrashUntil: until}
		m.Commit = class(m.Key)
		return m
	case 23:
		return index.MarkCommit{Class: modelClass, Limit: limit()}
	case 4, 5:
		return index.Delete{Key: key(), IfRef: maybeRef(), IgnoreMissing: flag("ignore missing"), Now: g.now, TrashUntil: until}
	case 16:
		before := time.Time{}
		if flag("before") {
			before = g.now.Add(-3 * time.Minute)
		}
		return index.Delete{Key: key(), Keep: true, By: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "by"), IfBefore: before, IgnoreMissing: flag("ignore missing"), Now: g.now, TrashUntil: until}
	case 17, 18:
		m := index.OpenPlan{Plan: index.Plan{Principal: "p", At: g.now}, Limit: rapid.SampledFrom([]int64{-1, 30 * unit, 1000 * unit}).Draw(t, "bound")}
		for range rapid.IntRange(1, 3).Draw(t, "sources") {
			m.Sources = append(m.Sources, key())
		}
		return m
	case 19:
		return index.ProvePlan{ID: uint64(rapid.IntRange(1, 12).Draw(t, "plan")), Now: g.now, Until: until}
	case 20:
		return index.ReturnKept{Key: key(), Now: g.now}
	case 21:
		if flag("all") {
			return index.ReturnSince{Except: "x", Since: g.now.Add(-5 * time.Minute), Now: g.now}
		}
		return index.ReleaseKept{Bytes: unit * rapid.Int64Range(0, 20).Draw(t, "bytes"), Most: rapid.IntRange(1, 4).Draw(t, "most"), Now: g.now, Grace: time.Duration(rapid.IntRange(0, 9).Draw(t, "grace")) * time.Minute}
	case 22:
		if flag("end") {
			return index.EndPlans{Now: g.now}
		}
		return index.Found{Key: key(), Ref: ref(), Now: g.now}
	case 6, 7:
		m := index.Move{From: key(), To: key(), IfAbsent: flag("absent"), Exempt: flag("exempt"), Limit: limit(), Now: g.now, TrashUntil: until}
		m.Commit = class(m.From)
		return m
	case 8:
		return index.Require{Key: key(), Ref: ref()}
	case 9:
		marks := rapid.SampledFrom([]index.Flags{0, index.FlagDamaged, index.FlagMissing, index.FlagMissing | index.FlagDamaged})
		return index.SetFlags{Key: key(), Ref: ref(), Set: marks.Draw(t, "set"), Clear: marks.Draw(t, "clear")}
	case 10:
		return index.MakeDir{Key: key(), Now: g.now}
	case 11:
		return index.RemoveDir{Key: key()}
	case 12:
		m := index.Restore{ID: id(), Exempt: flag("exempt"), Limit: limit(), Now: g.now, TrashUntil: until}
		if flag("elsewhere") {
			m.Key = key()
		}
		return m
	case 13:
		return index.PurgeTrash{IDs: []string{id(), id()}}
	case 14:
		return index.AcquireLock{ID: rapid.SampledFrom([]string{"k", "l"}).Draw(t, "lock"), Holder: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "holder"), TTL: 2 * time.Minute, Now: g.now}
	}
	if flag("expire") {
		return index.ExpireLocks{Now: g.now}
	}
	return index.ReleaseLock{ID: rapid.SampledFrom([]string{"k", "l"}).Draw(t, "lock"), Holder: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "holder")}
}

// applyGroup returns the model after the group, and holds the outcome against it.
func (m *model) applyGroup(t *rapid.T, g *generator, group []index.Mutation, results []index.Result, err error) *model {
	next := m.clone()
	next.began = next.counters().Counted()
	for i, mut := range group {
		r := index.Result{}
		if err == nil {
			r = results[i]
		}
		if r.TrashID != "" {
			g.ids = append(g.ids, r.TrashID)
		}
		want := next.apply(mut, r)
		if want == nil {
			next.closePlans()
			continue
		}
		var failed *index.GroupError
		if !errors.Is(err, want) || !errors.As(err, &failed) || failed.Position != i {
			t.Fatalf("group %+v: got %v, want %v at position %d", group, err, want, i)
		}
		return m
	}
	if err != nil {
		t.Fatalf("group %+v: got %v, want success", group, err)
	}
	return next
}

func TestAgainstModel(t *testing.T) {
	parent := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(parent, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "index.db")
		if err := index.Create(path, nil); err != nil {
			t.Fatal(err)
		}
		x, err := index.Open(path, index.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { x.Close() }()
		m, g := newModel(), &generator{now: clock}
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				// Several groups share a transaction, so that those that fail have
				// neighbours whose changes must stand.
				groups := make([][]index.Mutation, rapid.IntRange(1, 4).Draw(t, "groups"))
				for i := range groups {
					for range rapid.IntRange(1, 4).Draw(t, "group") {
						groups[i] = append(groups[i], g.draw(t))
					}
				}
				results, errs := x.ApplyTogether(groups)
				for i, group := range groups {
					m = m.applyGroup(t, g, group, results[i], errs[i])
				}
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "reopen") != 0 {
					return
				}
				if err := x.Close(); err != nil {
					t.Fatal(err)
				}
				if x, err = index.Open(path, index.Options{}); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) { m.compare(t, x) },
		})
	})
}
