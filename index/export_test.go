package index

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

// The doors through which the tests of package index_test look inside.

// SetRenewAfter sets the age at which a walk changes to a newer snapshot.
func (x *Index) SetRenewAfter(d time.Duration) { x.renewAfter = d }

// Tamper changes the file behind the index's back.
func (x *Index) Tamper(fn func(*bolt.Tx) error) error {
	defer x.show()
	return x.db.Update(fn)
}

// Commits is the number of the last transaction.
func (x *Index) Commits() (n int, err error) {
	err = x.view(func(s *snapshot) error {
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
