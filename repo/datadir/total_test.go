package datadir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

func isTotal(err error) bool {
	return errors.As(err, new(*repo.TotalError)) && errors.Is(err, repo.ErrQuota)
}

// However many clients store in however many repositories, together these have no more than the limit, and what fits is admitted.
func TestTotalQuotaRace(t *testing.T) {
	const size, fits, clients = 1000, 20, 64
	s := newSet(t, nil)
	s.SetTotalQuota(size * fits)
	var all []*repo.Access
	for i := range 4 {
		all = append(all, create(t, s, fmt.Sprintf("r%d", i)).As(repo.Principal{}))
	}
	body := strings.Repeat("x", size)
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := 0
	for i := range clients {
		wg.Go(func() {
			req := repo.PutRequest{Key: fmt.Sprintf("k%d", i), Body: strings.NewReader(body), Size: size}
			if i%2 == 0 {
				req.Size = -1 // not announced
			}
			_, err := all[i%len(all)].Put(ctx, req)
			if u := s.TotalUsage(); u.Used > size*fits || u.Reserved > size*fits {
				t.Errorf("together: got %+v", u)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				stored++
			case !isTotal(err):
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if stored > fits {
		t.Errorf("stored %d, and %d fit", stored, fits)
	}
	for i := range clients { // nothing is left set aside: the rest fits now, one by one
		put(all[i%len(all)], fmt.Sprintf("k%d", i), body)
	}
	if u := s.TotalUsage(); u.Used != size*fits || u.Reserved != 0 {
		t.Errorf("afterwards: got %+v, want %d", u, size*fits)
	}
}

// What makes space in one repository makes it for the others; what needs none is never refused.
func TestTotalQuotaEdges(t *testing.T) {
	s := newSet(t, nil)
	s.SetTotalQuota(100)
	a, b := ofBorg(t, s, "a"), ofBorg(t, s, "b")
	mustPut(t, a, "x", strings.Repeat("x", 60))
	mustPut(t, b, "x", strings.Repeat("x", 40)) // equality is allowed
	refused := func(a *repo.Access, what string) {
		t.Helper()
		_, err := put(a, "more", "y")
		if !isTotal(err) || !strings.Contains(err.Error(), "100 bytes") {
			t.Errorf("%s: got %v, want the total quota", what, err)
		}
	}
	refused(a, "one byte more")
	refused(b, "one byte more in the other")
	short := a.Repository().Short()
	if len(short) != 1 || short[0].Of != repo.ShortTotal || !strings.Contains(short[0].Help, "total_quota") {
		t.Errorf("short: got %+v", short)
	}
	mustPut(t, a, "empty", "")
	mustPut(t, b, "x", strings.Repeat("z", 40)) // replacing needs no more
	mustPut(t, b, "locks/me", "a lock is always admitted")
	mustPut(t, a, "index/1", strings.Repeat("i", 1000)) // and so is what completes an operation
	refused(b, "after an index")
	if err := a.Delete(ctx, "index/1"); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "y", strings.Repeat("y", 60))
	refused(a, "what the other has taken")
	if err := s.Destroy(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "x", strings.Repeat("x", 100))

	s.SetTotalQuota(50) // below what there is
	mustPut(t, a, "x", strings.Repeat("x", 90))
	if _, err := put(a, "x", strings.Repeat("x", 91)); !isTotal(err) {
		t.Errorf("larger, above a lowered limit: got %v", err)
	}
	s.SetTotalQuota(-1)
	mustPut(t, a, "y", strings.Repeat("y", 1000))
	if u := s.TotalUsage(); u.Limit != -1 || u.Used != 1090 {
		t.Errorf("without a limit: got %+v", u)
	}
}

// What commit keys may have beyond the limit is bounded.
func TestTotalQuotaOfCommitKeys(t *testing.T) {
	s := newSet(t, nil)
	s.SetTotalQuota(0)
	a := ofBorg(t, s, "a")
	const most = 64 << 20
	mustPut(t, a, "index/1", strings.Repeat("i", most-10))
	if _, err := put(a, "index/2", strings.Repeat("i", 11)); !isTotal(err) {
		t.Errorf("beyond the bound: got %v", err)
	}
	mustPut(t, a, "index/2", strings.Repeat("i", 10))
}

// A set that starts knows what its repositories use before it admits anything, although nobody has asked for them.
func TestTotalQuotaAfterStart(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	for _, name := range []string{"a", "b", "damaged"} {
		mustPut(t, create(t, s, name).As(repo.Principal{}), "x", strings.Repeat("x", 40))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "damaged", "index.db"), []byte("no index"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
	s.SetTotalQuota(100)
	a := access(t, s, "a")
	if _, err := put(a, "y", strings.Repeat("y", 21)); !isTotal(err) {
		t.Errorf("more than fits beside a repository that nobody has used: got %v", err)
	}
	mustPut(t, a, "y", strings.Repeat("y", 20))
	if u := s.TotalUsage(); !u.Complete || u.Used != 100 {
		t.Errorf("got %+v", u)
	}
}

// A repository whose directory is moved away does not count, and counts again when it is back.
func TestTotalQuotaOfMovedRepository(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	s.SetTotalQuota(100)
	mustPut(t, create(t, s, "a").As(repo.Principal{}), "x", strings.Repeat("x", 100))
	b := create(t, s, "b").As(repo.Principal{})
	if err := os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, ".away")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "a"); !errors.Is(err, repo.ErrNoRepository) {
		t.Fatalf("got %v", err)
	}
	waitFor(t, "end of the repository", func() bool { return s.TotalUsage().Used == 0 })
	mustPut(t, b, "x", "x")
	if err := os.Rename(filepath.Join(dir, ".away"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	access(t, s, "a")
	if _, err := put(b, "y", "y"); !isTotal(err) {
		t.Errorf("beside the repository that is back: got %v", err)
	}
}

// A disk that does not answer holds up neither the count nor, after that, who stores something elsewhere.
func TestTotalQuotaBesideASilentDisk(t *testing.T) {
	dir := t.TempDir()
	s := datadir.Open(datadir.Options{Dir: dir})
	for _, name := range []string{"fast", "slow"} {
		mustPut(t, create(t, s, name).As(repo.Principal{}), "x", strings.Repeat("x", 60))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fsys := vfstest.NewStalling(vfs.OS())
	release := fsys.Stall(filepath.Join(dir, "slow"))
	defer release()
	s = datadir.Open(datadir.Options{
		Dir: dir, Environment: repo.Environment{FS: fsys}, Patience: time.Second, FileSystem: func(at string) string {
			return fmt.Sprint(strings.HasPrefix(at, filepath.Join(dir, "slow")))
		},
	})
	s.SetTotalQuota(100)
	mustPut(t, access(t, s, "fast"), "y", strings.Repeat("y", 40)) // it waits for the count
	if u := s.TotalUsage(); !u.Complete || u.Used != 100 {
		t.Errorf("got %+v", u)
	}
	release()
	slow := access(t, s, "slow") // counts from now on
	if _, err := put(slow, "y", "y"); !isTotal(err) {
		t.Errorf("got %v", err)
	}
	if u := s.TotalUsage(); u.Used != 160 {
		t.Errorf("got %+v", u)
	}
	checkAll(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// access opens a repository.
func access(t *testing.T, s *datadir.Set, name string) *repo.Access {
	t.Helper()
	r, err := s.Get(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return r.As(repo.Principal{})
}

// ofBorg creates a repository whose clients have items that complete an operation.
func ofBorg(t *testing.T, s *datadir.Set, name string) *repo.Access {
	t.Helper()
	r, err := s.Create(ctx, name, "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	return r.As(repo.Principal{})
}

// After the volume of the data directory was away, all of its repositories count again, although nobody has asked for them.
func TestTotalQuotaAfterDetaching(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSet(t, func(o *datadir.Options) {
		o.Dir, o.Reattach = dir, func() error { return nil }
	})
	s.SetTotalQuota(100)
	mustPut(t, create(t, s, "a").As(repo.Principal{}), "x", strings.Repeat("x", 100))
	create(t, s, "b")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "detached directory", func() bool { _, err := s.Get(ctx, "b"); return errors.Is(err, repo.ErrDetached) })
	waitFor(t, "end of the repositories", func() bool { return s.TotalUsage().Used == 0 })
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "directory that is back", func() bool { _, err := s.Get(ctx, "b"); return err == nil })
	if _, err := put(access(t, s, "b"), "y", "y"); !isTotal(err) {
		t.Errorf("beside a repository that nobody has used: got %v", err)
	}
}
