package compact_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// smallDisk has as many bytes free as the test says.
type smallDisk struct {
	vfs.FS
	free *atomic.Int64
}

func (d smallDisk) Space(string) (free, total int64, err error) { return d.free.Load(), 1 << 40, nil }

// Two plans at once do not count on the same free space, although each deletes as much as it writes.
func TestPlansShareTheDisk(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	p := newPlace(t, func(so *datadir.Options, o *compact.Options) {
		so.FS = smallDisk{vfs.OS(), &free}
		o.Rate = 1 << 20
	})
	const size = 4 << 20
	body := []byte(strings.Repeat("x", size))
	plan := func(from, to string) compact.Operation {
		return compact.Operation{Ranges: []compact.Range{{Key: from, Offset: 0, Length: size - 1}}, Target: to, Deletes: []string{from}}
	}
	p.put("a", body)
	p.put("b", body)
	free.Store(size + size/2)
	first := p.submit("now", plan("a", "c"))
	p.untilReading(first.ID)
	if _, err := p.run(plan("b", "d")); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("second plan: got %v, want ErrNoSpace", err)
	}
	if done, err := p.engine.Await(t.Context(), p.repo, first.ID); err != nil || done.State != compact.Done {
		t.Errorf("first plan: got %+v, %v", done, err)
	}
	p.mustRun(plan("b", "d"))
	p.wantKeys("c", "d")
}
