package repo_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/blobstore/vfs"
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
