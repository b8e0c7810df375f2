package repo_test

import (
	"testing"

	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

var (
	create        = repotest.Create
	put           = repotest.Put
	mustPut       = repotest.MustPut
	get           = repotest.Get
	wantContent   = repotest.WantContent
	list          = repotest.List
	waitFor       = repotest.WaitFor
	memoryDir     = repotest.MemoryDir
	newRepository = repotest.NewRepository
	blobFiles     = repotest.BlobFiles
	blobPaths     = repotest.BlobPaths
	newClock      = repotest.NewClock
	fixedClock    = repotest.FixedClock
	trash         = repotest.Trash
	changePages   = repotest.ChangePages
	zeroPagesOf   = repotest.ZeroPagesOf
	fill          = repotest.Fill
)

// newSet makes an empty set in a fresh directory; change may alter its options.
func newSet(t testing.TB, change func(*datadir.Options)) *datadir.Set {
	t.Helper()
	s := repotest.NewSet(t, change)
	t.Cleanup(func() { checkLedgers(t, s) })
	return s
}

// checkAll compares counters, references, records and ledgers of all open repositories.
func checkAll(t testing.TB, s *datadir.Set) {
	t.Helper()
	repotest.Check(t, s)
	checkLedgers(t, s)
}

// checkLedgers wants nothing reserved any more, and what is counted as the index has it.
func checkLedgers(t testing.TB, s *datadir.Set) {
	t.Helper()
	for name, r := range s.Opened() {
		if r.Health().ReadOnly {
			continue
		}
		if counted, reserved, stored := repo.CommitBytes(t, r); counted != stored || reserved != 0 {
			t.Errorf("commit keys of %q: counted %d, reserved %d, stored %d", name, counted, reserved, stored)
		}
		if n := repo.Reserved(r); n != 0 {
			t.Errorf("%d bytes of the disk are still promised", n)
		}
	}
}

// newAccess makes a repository and an access without restrictions.
func newAccess(t testing.TB, change func(*datadir.Options)) *repo.Access {
	t.Helper()
	return create(t, newSet(t, change), "r").As(repo.Principal{Name: "tester"})
}
