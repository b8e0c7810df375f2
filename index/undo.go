package index

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// A tx is one write transaction. All rows are changed through put and remove,
// which remember what was there: so a group that fails half way is taken back,
// counters and all, while its neighbours in the transaction stand.
type tx struct {
	meta, items, refs, trash, counters, locks, jobs, writers *bucket
	plans, sources, kept, keptKeys                           *bucket

	began  int64  // what counted against limits when the current group began
	log    []step // of the current group, in order
	broken error  // bbolt refused something it never should: the transaction cannot go on
}

// A step is the state of one row before it was changed.
type step struct {
	bucket *bucket
	key    []byte
	before []byte // nil: there was no such row; no row of ours is empty
}

func newTx(b *bolt.Tx, g *guard) *tx {
	named := func(name []byte) *bucket { return g.bucket(b, name) }
	return &tx{
		meta: named(bucketMeta), items: named(bucketItems), refs: named(bucketRefs), trash: named(bucketTrash),
		counters: named(bucketCounters), locks: named(bucketLocks), jobs: named(bucketJobs), writers: named(bucketWriters),
		plans: named(bucketPlans), sources: named(bucketSources), kept: named(bucketKept), keptKeys: named(bucketKeptKeys),
	}
}

// put sets a row. key and value must not be modified afterwards: bbolt keeps
// value, the log keeps key. Setting what is there already is no change.
func (t *tx) put(bucket *bucket, key, value []byte) {
	before := bucket.Get(key)
	if t.broken != nil || before != nil && bytes.Equal(before, value) {
		return
	}
	// A copy, as bbolt may move what Get returned when the file is mapped anew.
	t.log = append(t.log, step{bucket, key, bytes.Clone(before)})
	t.broken = bucket.Put(key, value)
}

// remove deletes a row, if it is there.
func (t *tx) remove(bucket *bucket, key []byte) {
	before := bucket.Get(key)
	if t.broken != nil || before == nil {
		return
	}
	t.log = append(t.log, step{bucket, key, bytes.Clone(before)})
	t.broken = bucket.Delete(key)
}

// undo takes the group's steps back, last first.
func (t *tx) undo() {
	for i := len(t.log) - 1; i >= 0 && t.broken == nil; i-- {
		if s := t.log[i]; s.before == nil {
			t.broken = s.bucket.Delete(s.key)
		} else {
			t.broken = s.bucket.Put(s.key, s.before)
		}
	}
	t.log = t.log[:0]
}
