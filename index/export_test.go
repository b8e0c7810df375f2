package index

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// What the tests of package index_test reach of the package's insides.

// CheckpointRows is how many rows make a checkpoint due at once.
const CheckpointRows = checkpointRows

// Errors that only tests tell from others.
var (
	ErrBadVersion = errBadVersion
	ErrRefUsed    = errRefUsed
)

// SetRenewAfter sets the age at which a walk changes to a newer snapshot.
func (x *Index) SetRenewAfter(d time.Duration) { x.renewAfter = d }

// Tamper changes the file behind the index's back.
func (x *Index) Tamper(fn func(*bolt.Tx) error) error {
	if err := x.Checkpoint(); err != nil {
		return err
	}
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	defer x.show()
	return x.db.Update(fn)
}

// Commits is the number of the last transaction.
func (x *Index) Commits() (n int, err error) {
	err = x.view(func(s *view) error {
		n = s.tx.ID()
		return nil
	})
	return n, err
}

// WaitQueued returns when n groups wait for the commit loop.
func (x *Index) WaitQueued(n int) {
	for len(x.queue) < n {
		time.Sleep(time.Millisecond)
	}
}

// ApplyTogether applies the groups in one transaction, in this order. No Apply may
// run meanwhile.
func (x *Index) ApplyTogether(groups [][]Mutation) (results [][]Result, errs []error) {
	var together []*group
	for _, muts := range groups {
		together = append(together, &group{mutations: muts})
	}
	x.commit(together)
	for _, g := range together {
		results, errs = append(results, g.results), append(errs, g.err)
	}
	return results, errs
}

// SetMaxPending bounds the rows that are in the log alone.
func (x *Index) SetMaxPending(rows int) {
	x.pending.mu.Lock()
	defer x.pending.mu.Unlock()
	x.pending.most = rows
}

// SetCheckpointStep sets how many rows go into the file with one commit of bbolt.
func (x *Index) SetCheckpointStep(rows int) {
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	x.pending.step = rows
}

// SetCheckpointRetry sets how long after a checkpoint that failed the next is made.
func (x *Index) SetCheckpointRetry(d time.Duration) {
	x.pending.mu.Lock()
	defer x.pending.mu.Unlock()
	x.pending.retry = d
}

// WaitAwaited returns when a writer waits for a checkpoint.
func (x *Index) WaitAwaited() {
	for awaited := false; !awaited; time.Sleep(time.Millisecond) {
		x.pending.mu.Lock()
		awaited = x.pending.awaited
		x.pending.mu.Unlock()
	}
}

// HoldCheckpoints lets none begin before release.
func (x *Index) HoldCheckpoints() (release func()) {
	x.pending.checkpointing.Lock()
	return x.pending.checkpointing.Unlock
}

// Broken tells whether bbolt met what it cannot cope with.
func (x *Index) Broken() bool { return x.broken }

// Mapped is the size of the memory mapping, in bytes.
func (x *Index) Mapped() int { return x.mapped }

// OpenSized is Open with a memory mapping of so many bytes.
func OpenSized(path string, opts Options, size int) (*Index, error) {
	return openSized(path, opts, size)
}

// named is the tree of a bucket in the file.
func (s *state) named(bucket string) *tree { return s.trees[bucket] }

// LeafOf finds the page that has a row, and its first row.
func (x *Index) LeafOf(bucket, row string) (page int, first string) {
	_ = x.view(func(s *view) error {
		c := s.named(bucket).Cursor()
		c.seekPage([]byte(row))
		top := c.stack[len(c.stack)-1].page
		page, first = int(top.id), string(top.key(0))
		return nil
	})
	return page, first
}

// RootLeaf is the page of the first leaf of the root bucket.
func (x *Index) RootLeaf() (page int) {
	_ = x.view(func(s *view) error {
		c := (&tree{s: s.state, root: s.root, buckets: true}).Cursor()
		c.firstPage()
		page = int(c.stack[len(c.stack)-1].page.id)
		return nil
	})
	return page
}

// RootOf is the page where the tree of a bucket begins.
func (x *Index) RootOf(bucket string) (page int) {
	_ = x.view(func(s *view) error {
		page = int(s.named(bucket).root)
		return nil
	})
	return page
}

// ReadMetas looks at the meta pages of a file.
func ReadMetas(file io.ReaderAt, size int64) error {
	_, bad, err := readMetas(file, size)
	return errors.Join(bad, err)
}

// Freelist is where the list of free pages lies.
func (x *Index) Freelist() (page int) {
	_ = x.view(func(s *view) error {
		page = int(s.freelist)
		return nil
	})
	return page
}

// CheckStructure looks at all pages of a database, which nobody may be writing.
func CheckStructure(path string) (problems []string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	m, bad, err := readMetas(file, info.Size())
	if err != nil || bad != nil {
		return nil, errors.Join(err, bad)
	}
	c := structureCheck{meta: m, ctx: context.Background(), file: file, leaves: true, problem: func(err error) error {
		problems = append(problems, err.Error())
		return nil
	}}
	return problems, c.run()
}

// Mapping is the file as the last commit left it, in the memory mapping.
func (x *Index) Mapping() []byte { return x.snapshots.current.data }

// ForgetResident lets reads ask for each page anew.
func (x *Index) ForgetResident() {
	for i := range x.snapshots.current.resident.windows {
		x.snapshots.current.resident.windows[i].Store(0)
	}
}
