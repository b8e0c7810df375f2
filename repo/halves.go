package repo

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"packhouse/index"
)

// A compaction of V'Ger has two halves: the server's plan, which makes new packs, and the index that the client stores
// afterwards, which refers to them. Until the second half has arrived the server cannot know which packs the client
// will look for, so it keeps both sides: the sources of the plan stay items beside the outputs (the plan is open).
// They go when it is proven that the client has the answer: see provable. docs/compaction.md says what happens at
// every cut.

// twoHalves says by which keys the clients of a dialect end a compaction.
type twoHalves struct {
	index  string   // storing it is the second half
	reads  []string // who has read one of these knows the index, or what led to it
	locks  string   // the directory of their locks
	packs  string   // the directory of what plans are about
	config string   // removing it together with others removes the repository
}

// halvesOf has the dialects whose compactions have two halves. BorgBackup deletes its index before the first change
// and makes it anew from the list of packs: it needs none of this.
var halvesOf = map[string]*twoHalves{
	"vger": {index: "index", reads: []string{"index", "index.gen", "manifest"}, locks: "locks", packs: "packs", config: "config"},
}

// metaIndexSender is the name of the meta value that says who stored the index last: principal, a zero byte, address.
const metaIndexSender = "index sender"

// sender is who a client is, as far as clients can be told apart.
type sender struct{ name, address string }

func (a *Access) sender() sender { return sender{a.p.Name, a.p.Address} }

// Bounds of what is remembered of the clients of one repository.
const (
	maxReaders = 4096 // senders whose last read is known; of another one it is as if it were not
	maxCalls   = 4096 // plans under one lock that may be proven; the sources of others stay
)

// compactions is what a repository remembers, in memory, of its clients' compactions. After a restart nothing of
// it is known, and so nothing is proven that began before.
type compactions struct {
	keys *twoHalves // nil: there is nothing to remember

	// mu is held over the decision and the commit of whatever bears on an open plan: changes of locks, an index
	// stored, a plan carried out. It comes before all other locks of the repository.
	mu     sync.Mutex
	reads  map[sender]time.Time // when each began its last whole read of one of keys.reads
	stored latest               // who stored an index last
	unused latest               // who removed packs as unused last
	calls  map[string]*call     // by job ID: plans that may be proven
	steps  uint64               // counts what is in order: answers, and indexes that begin to be stored
	proof  time.Time            // the last one; zero: none since the start
	live   int64                // see began
}

// latest is who did something last, and who was the last other than that one.
type latest [2]struct {
	by sender
	at time.Time
}

func (l *latest) note(by sender, at time.Time) {
	if l[0].by != by {
		l[1] = l[0]
	}
	l[0].by, l[0].at = by, at
}

// byOther is when another than by did it last; zero: never.
func (l *latest) byOther(by sender) time.Time {
	if l[0].by == by {
		return l[1].at
	}
	return l[0].at
}

func (s sender) String() string { return s.name + "\x00" + s.address }

// began takes note of what there was when a plan began, for which what it removes may be kept. mu is held.
func (c *compactions) began(r *Repository) {
	now := r.index.Counters()
	live := now.Bytes - now.Exempt
	switch {
	case now.Plans == 0 && now.KeptItems == 0:
		c.live = live
	case c.live == 0: // not known since the start
		c.live = live + now.KeptBytes
	default:
		c.live = max(c.live, live)
	}
}

// call is a plan that a client sent, and what is known of its answer. Guarded by compactions.mu.
type call struct {
	by    sender
	lock  string // that was there when it came; see lockNow
	makes bool   // has outputs
	plan  uint64 // its open plan; 0: not committed, or it has no sources

	owner     *Compaction // the last request for it
	answered  uint64      // the step at which its answer has been written whole; 0: it has not
	followed  bool        // its client has sent another plan since
	disturbed bool        // another client has changed locks or stored an index since
	ended     bool        // its lock has gone
}

// Compaction is one request to carry out a plan whose sources stay until the client has stored its index. It belongs
// to the latest request for the plan.
type Compaction struct {
	a    *Access
	id   string
	lock string
	call *call // nil: it cannot be proven

	read  time.Time // when its client had begun its last read of the index when the request came
	known bool      // that is known
}

// BeginCompaction notes that a client asks for a plan. id is that of its job: the same for the same plan of the same
// principal. makes tells whether it has outputs.
func (a *Access) BeginCompaction(id string, makes bool) (*Compaction, error) {
	c := &a.r.compactions
	k := &Compaction{a: a, id: id}
	if c.keys == nil {
		return k, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, err := a.r.lockNow()
	if err != nil {
		return nil, err
	}
	k.lock = lock
	k.read, k.known = c.reads[a.sender()]
	// Who sends another plan has had the answers to those before it.
	for other, old := range c.calls {
		if other != id && old.by == a.sender() && old.lock == lock && old.answered != 0 {
			old.followed = true
		}
	}
	if lock == "" {
		return k, nil
	}
	known := c.calls[id]
	if known == nil && len(c.calls) >= maxCalls {
		// Locks that have ended by the clock are noticed here.
		maps.DeleteFunc(c.calls, func(_ string, old *call) bool { return old.lock != lock })
		if len(c.calls) >= maxCalls {
			return k, nil
		}
	}
	k.call = &call{by: a.sender(), lock: lock, makes: makes, owner: k}
	if known != nil && known.lock == lock && !known.ended {
		k.call.plan, k.call.disturbed = known.plan, known.disturbed || known.by != a.sender()
	}
	if c.calls == nil {
		c.calls = make(map[string]*call)
	}
	c.calls[id] = k.call
	return k, nil
}

// Lock names the lock that was there when the request came; empty: there was none. It is another one when it has been
// released and taken again.
func (k *Compaction) Lock() string { return k.lock }

// Replayed notes that the request is answered with a result that is kept from before.
func (k *Compaction) Replayed() {
	if k.call == nil {
		return
	}
	c := &k.a.r.compactions
	c.mu.Lock()
	defer c.mu.Unlock()
	// From before a restart: who else came meanwhile nobody knows.
	k.call.disturbed = k.call.disturbed || k.call.plan == 0
}

// Answering notes that the answer is about to be complete: from its last byte on the client may store its index. It
// is called before that byte is written, and Unanswered after, if it could not be.
func (k *Compaction) Answering() { k.setAnswered(true) }

// Unanswered takes Answering back: the client may not have the answer.
func (k *Compaction) Unanswered() { k.setAnswered(false) }

func (k *Compaction) setAnswered(answered bool) {
	if k.call == nil {
		return
	}
	c := &k.a.r.compactions
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case k.call.owner != k:
	case answered:
		c.steps++
		k.call.answered = c.steps
	default:
		k.call.answered = 0
	}
}

// Failed notes that the plan was not carried out: it has made nothing that its client could refer to.
func (k *Compaction) Failed() {
	if k.call == nil {
		return
	}
	c := &k.a.r.compactions
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.call.owner == k && k.call.plan == 0 && c.calls[k.id] == k.call {
		delete(c.calls, k.id)
	}
}

// indexBegins notes that an index begins to be stored, and returns the step: what it proves was answered before.
func (c *compactions) indexBegins() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps++
	return c.steps
}

// lockNow names the lock that object clients would find first, or the TTL lock, which comes before all of those. The
// name says also since when it is there: taken again it is another lock.
func (r *Repository) lockNow() (string, error) {
	locks, err := r.index.Locks()
	if err != nil {
		return "", r.translate(err)
	}
	now := r.env.Now()
	for _, l := range locks {
		if now.Sub(l.Acquired) <= l.TTL {
			return nameTTLLock(l.ID, l.Acquired), nil
		}
	}
	found := errors.New("found")
	name := ""
	o := index.ListOptions{Dir: r.compactions.keys.locks, Recursive: true, Present: true}
	err = r.index.List(context.Background(), o, func(e index.Entry) error {
		name = nameObjectLock(e.Key, e.Item.Created)
		return found
	})
	if err == nil || errors.Is(err, found) || errors.Is(err, index.ErrNotFound) || errors.Is(err, index.ErrNotDir) {
		return name, nil
	}
	return "", r.translate(err)
}

// LeadsToIndex tells whether who reads key knows something of the index: IndexRead is to be told.
func (a *Access) LeadsToIndex(key string) bool { return a.r.compactions.keys.leadsToIndex(key) }

// ReadTime is when a read of a key begins, for IndexRead.
func (a *Access) ReadTime() time.Time {
	return a.r.changes.begins(a.r.env.Now())
}

// IndexRead notes that the client has been sent the whole of a key, which it began to read at a time. Of keys that
// say nothing of an index it notes nothing.
func (a *Access) IndexRead(key string, at time.Time) {
	c := &a.r.compactions
	if !c.keys.leadsToIndex(key) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if key != c.keys.index && !c.current(a.r, a.sender()) {
		return
	}
	if _, known := c.reads[a.sender()]; !known && len(c.reads) >= maxReaders {
		for some := range c.reads { // any: then it is as after a restart
			delete(c.reads, some)
			break
		}
	}
	if c.reads == nil {
		c.reads = make(map[sender]time.Time)
	}
	if at.After(c.reads[a.sender()]) {
		c.reads[a.sender()] = at
	}
}

// current tells whether the index that is there is one that a sender has read or stored: then a look at what leads to it
// (index.gen) may tell its client that the copy in its cache is right. Else the client reads the index, or has a copy of
// another: index.gen is stored after the index. mu is held.
func (c *compactions) current(r *Repository, by sender) bool {
	read, known := c.reads[by]
	if other := c.stored.byOther(by); !other.IsZero() {
		return c.stored[0].by == by || known && other.Before(read)
	}
	if known {
		return true
	}
	last, ok, err := r.indexSender()
	return err == nil && ok && last == by
}

// indexSender is who stored the index last; not ok: nobody since there is a note of it.
func (r *Repository) indexSender() (sender, bool, error) {
	value, err := r.index.Meta(metaIndexSender)
	if err != nil || value == nil {
		return sender{}, false, r.translate(err)
	}
	name, address, _ := strings.Cut(string(value), "\x00")
	return sender{name, address}, true, nil
}

// leadsToIndex tells whether who reads key knows of the index.
func (h *twoHalves) leadsToIndex(key string) bool {
	if h == nil {
		return false
	}
	for _, read := range h.reads {
		if key == read {
			return true
		}
	}
	return false
}

func (h *twoHalves) isLock(key string) bool { return below(h.locks, key) }
func (h *twoHalves) isPack(key string) bool { return below(h.packs, key) }

func below(dir, key string) bool {
	rest, ok := strings.CutPrefix(key, dir)
	return ok && strings.HasPrefix(rest, "/")
}

// bears tells whether a batch has something to do with open plans.
func (c *compactions) bears(b *Batch) bool {
	if c.keys == nil {
		return false
	}
	if b.Open != nil || b.whole {
		return true
	}
	for i := range b.Puts {
		if key := b.Puts[i].Upload.o.Key; key == c.keys.index || c.keys.isLock(key) {
			return true
		}
	}
	for i := range b.Deletes {
		if c.keys.isLock(b.Deletes[i].Key) {
			return true
		}
	}
	return false
}

// lockChanged notes what a sender did to a lock. mu is held. gone: it is not there any more, or not the one it was.
func (c *compactions) lockChanged(by sender, name string, gone bool) {
	for id, old := range c.calls {
		if old.by != by {
			old.disturbed = true
		}
		if gone && (strings.HasPrefix(old.lock, name+lockSince) || strings.HasPrefix(old.lock, ttlLock+name+lockSince)) {
			old.ended = true
			delete(c.calls, id)
		}
	}
}

// changeTTL applies a change of TTL locks: every one that is taken is a new one.
func (a *Access) changeTTL(ctx context.Context, id string, m index.Mutation) ([]index.Result, error) {
	c := &a.r.compactions
	if c.keys == nil {
		return a.r.apply(ctx, m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	results, err := a.r.apply(ctx, m)
	if !refused(err) {
		c.lockChanged(a.sender(), id, true)
	}
	return results, err
}

// refused tells of an error that nothing was changed. After another one that is not known.
func refused(err error) bool { return errors.As(err, new(*index.GroupError)) }

// provable tells whether an index that the sender of k stores now shows that it has the answer to the plan. It has if
//
//   - that was written whole to a connection that was there still, before the index began to come, and
//   - the lock is the same as then, and
//   - nobody else has changed a lock or stored an index since, and
//   - the plan is the only one with outputs under this lock, or its client has sent another one after the answer:
//     a client whose answer was lost in a proxy stores an index for the plans before that one.
//
// mu is held.
func (c *compactions) provable(k *call, lock string, makers int, begun uint64) bool {
	if k.plan == 0 || k.answered == 0 || k.answered > begun || k.disturbed || k.ended || k.lock != lock {
		return false
	}
	return k.followed || makers == 1 && k.makes
}

// makers is how many plans with outputs have come under a lock. mu is held.
func (c *compactions) makers(lock string) (n int) {
	for _, k := range c.calls {
		if k.makes && k.lock == lock {
			n++
		}
	}
	return n
}

// indexCommit is what a new index brings with it.
type indexCommit struct {
	by     sender
	proves []*call
	doubt  bool // it may refer to what a plan has removed
}

// beforeIndex adds to muts what is true with a new index. mu is held.
func (a *Access) beforeIndex(u *Upload, now time.Time, muts []index.Mutation) ([]index.Mutation, *indexCommit, error) {
	c := &a.r.compactions
	entry, err := a.r.index.Get(c.keys.index)
	if err != nil && !errors.Is(err, index.ErrNotFound) {
		return nil, nil, a.r.translate(err)
	}
	ic := &indexCommit{by: a.sender()}
	muts = append(muts, index.SetMeta{Name: metaIndexSender, Value: []byte(ic.by.String())})
	if err == nil && entry.Item.BLAKE3 == u.item.BLAKE3 && entry.Item.Size == u.item.Size {
		return muts, ic, nil // a retry, which says no more than the first did
	}
	read, known := c.reads[ic.by]
	removed := later(c.proof, c.unused.byOther(ic.by))
	if a.r.index.Counters().KeptItems > 0 && (!known || !removed.IsZero() && !removed.Before(read)) {
		ic.doubt = true
		muts = append(muts, index.ReturnSince{Since: read, Except: ic.by.String(), Now: now, Cause: a.r.ownCause()})
	}
	lock, err := a.r.lockNow()
	if err != nil {
		return nil, nil, err
	}
	makers := c.makers(lock)
	for id, k := range c.calls {
		if k.by == ic.by && c.provable(k, lock, makers, u.begun) {
			ic.proves = append(ic.proves, k)
			muts = append(muts, index.ProvePlan{ID: k.plan, Now: now, Until: a.r.keptUntil(a.r.env.Now()), Cause: a.cause(id)})
		}
	}
	return muts, ic, nil
}

// afterIndex notes a new index that is stored. results are those of the mutations that beforeIndex added. mu is held.
func (c *compactions) afterIndex(r *Repository, ic *indexCommit, now time.Time, results []index.Result) {
	c.stored.note(ic.by, now)
	for _, k := range c.calls {
		if k.by != ic.by {
			k.disturbed = true
		}
	}
	results = results[1:]
	if ic.doubt {
		if n := results[0]; n.Items > 0 {
			r.env.Logger.Warn("packs that a compaction had removed are back: the client that stored an index had not read the one that removed them",
				"repository", r.Name(), "principal", ic.by.name, "packs", n.Items, "bytes", n.Bytes)
		}
		results = results[1:]
	}
	for i, k := range ic.proves {
		c.proof = now
		r.env.Logger.Info("compaction complete: its client has stored the index", "repository", r.Name(),
			"plan", k.plan, "principal", ic.by.name, "packs", results[i].Items, "bytes", results[i].Bytes)
		k.plan = 0
	}
}

// never is before all packs.
var never = time.UnixMilli(0)

// unusedBefore is the time before which a pack must have been stored, made and found that goes because the client of k
// calls it unused; never: none goes. It is when that client had begun to read the index when its request came, unless
// another sender has stored one since, or the client's lock has gone. Where no read is known it is the time of
// Settings.CompactYoung ago, unless another sender has stored an index since then. mu is held.
func (c *compactions) unusedBefore(k *Compaction, now time.Time) (time.Time, error) {
	r, by := k.a.r, k.a.sender()
	lock, err := r.lockNow()
	if err != nil || lock != k.lock {
		return never, err
	}
	if k.known {
		if last := c.stored.byOther(by); !last.IsZero() && !last.Before(k.read) {
			return never, nil
		}
		return k.read, nil
	}
	before := now.Add(-time.Duration(r.compactYoung.Load()))
	entry, err := r.index.Get(c.keys.index)
	switch {
	case errors.Is(err, index.ErrNotFound):
		return before, nil
	case err != nil:
		return never, r.translate(err)
	}
	last, ok, err := r.indexSender()
	if err == nil && (!ok || last != by) && !entry.Item.Modified.Before(before) {
		return never, nil
	}
	return before, err
}
