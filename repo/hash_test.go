package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// slowReads holds up the reading of blobs, while it is on, and counts who reads.
type slowReads struct {
	vfs.FS
	on      atomic.Bool
	reading atomic.Int64
	free    chan struct{}
}

func (s *slowReads) Open(name string) (vfs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil || !strings.Contains(name, "blobs") || filepath.Ext(name) == ".sums" {
		return f, err
	}
	return &slowFile{f, s}, nil
}

type slowFile struct {
	vfs.File
	s *slowReads
}

func (f *slowFile) ReadAt(p []byte, off int64) (int, error) {
	if f.s.on.Load() && len(p) > 1000 {
		f.s.reading.Add(1)
		<-f.s.free
	}
	return f.File.ReadAt(p, off)
}

// However many digests a client asks for, some are computed at once; what nobody waits for any more does not begin,
// and what has begun is there for who asks again.
func TestHashesAreBounded(t *testing.T) {
	const places, asked = 8, 30
	slow := &slowReads{FS: vfs.OS(), free: make(chan struct{})}
	a := newAccess(t, func(o *datadir.Options) { o.FS = slow })
	for i := range asked {
		mustPut(t, a, fmt.Sprint(i), strings.Repeat("x", 5000))
	}
	slow.on.Store(true)
	sha := algorithm(t, "sha256")
	leaving, leave := context.WithCancel(ctx)
	ended := make(chan error)
	for i := range asked {
		go func() { _, err := a.Hash(leaving, fmt.Sprint(i), sha); ended <- err }()
	}
	waitFor(t, "the places to be taken", func() bool { return slow.reading.Load() == places })
	leave()
	for range asked {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("who left: got %v, want context.Canceled", err)
		}
	}
	if got := slow.reading.Load(); got != places {
		t.Errorf("%d computations began, want %d", got, places)
	}
	again := make(chan error)
	for i := range asked {
		go func() { _, err := a.Hash(ctx, fmt.Sprint(i), sha); again <- err }()
	}
	close(slow.free)
	for range asked {
		if err := <-again; err != nil {
			t.Error(err)
		}
	}
	if got := slow.reading.Load(); got > asked+places {
		t.Errorf("%d computations for %d digests", got, asked)
	}
}

// A computation for which nobody waits is stopped, but not before a client that gave up can have asked again.
func TestHashEndsWithItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repo.NewHashings()
		var begun atomic.Int64
		var stopped atomic.Bool
		finish := make(chan struct{})
		compute := func(ctx context.Context) ([]byte, error) {
			begun.Add(1)
			select {
			case <-finish:
				return []byte("sum"), nil
			case <-ctx.Done():
				stopped.Store(true)
				return nil, context.Cause(ctx)
			}
		}
		ask := func(patience time.Duration) ([]byte, error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return s.Do(ctx, "item", compute)
		}
		for range 4 {
			if _, err := ask(30 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ask: got %v, want context.DeadlineExceeded", err)
			}
			time.Sleep(repo.HashPatience / 2)
		}
		if begun.Load() != 1 || stopped.Load() {
			t.Errorf("%d computations began, stopped %v; want one that goes on", begun.Load(), stopped.Load())
		}
		time.Sleep(repo.HashPatience)
		synctest.Wait()
		if !stopped.Load() {
			t.Error("nobody waits for the computation, but it goes on")
		}
		close(finish)
		if sum, err := ask(time.Second); err != nil || string(sum) != "sum" || begun.Load() != 2 {
			t.Errorf("ask again: got %q, %v, %d computations; want a second one", sum, err, begun.Load())
		}
		s.Close()
		if _, err := ask(time.Second); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ask when closed: got %v, want fs.ErrClosed", err)
		}
	})
}

// When the repository is closed or destroyed nothing of it is read any more: neither for the digest that is computed nor for
// those that wait for a place.
func TestHashEndsWithItsRepository(t *testing.T) {
	for _, how := range []string{"closed", "destroyed"} {
		t.Run(how, func(t *testing.T) {
			slow := &slowReads{FS: vfs.OS(), free: make(chan struct{})}
			dir := newRepository(t)
			s := datadir.Open(datadir.Options{Dir: dir, Environment: repo.Environment{FS: slow}})
			defer s.Close()
			r, err := s.Get(ctx, "r")
			if err != nil {
				t.Fatal(err)
			}
			const asked = 10 // more than there are places
			a := r.As(repo.Principal{})
			for i := range asked {
				mustPut(t, a, fmt.Sprint(i), strings.Repeat("x", 1<<20))
			}
			slow.on.Store(true)
			ended := make(chan error)
			for i := range asked {
				go func() { _, err := a.Hash(ctx, fmt.Sprint(i), algorithm(t, "sha256")); ended <- err }()
			}
			waitFor(t, "the places to be taken", func() bool { return slow.reading.Load() == 8 })
			closed := make(chan error)
			go func() {
				if how == "closed" {
					closed <- s.Close()
				} else {
					closed <- s.Destroy(ctx, "r")
				}
			}()
			want := map[string]error{"closed": repo.ErrBusy, "destroyed": repo.ErrNoRepository}[how]
			for range asked - 8 {
				if err := <-ended; !errors.Is(err, want) {
					t.Errorf("hash that waits: got %v, want %v", err, want)
				}
			}
			close(slow.free)
			for range 8 {
				if err := <-ended; !errors.Is(err, want) {
					t.Errorf("hash: got %v, want %v", err, want)
				}
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
			if got := slow.reading.Load(); got != 8 {
				t.Errorf("%d reads, want none after the repository was %s", got, how)
			}
		})
	}
}
