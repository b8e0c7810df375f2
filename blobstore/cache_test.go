package blobstore_test

import (
	"context"
	"testing"

	"packhouse/blobstore/vfs"
)

// cachedDisk takes hints about its files, of which it holds something in memory or not.
type cachedDisk struct {
	vfs.FS
	*cache
}

type cache struct {
	cached  bool
	ahead   int64 // end of what it was told of
	reach   int64 // the furthest that was before the bytes being read
	late    bool  // something was read that it was not told of
	holds   int64 // bytes read and not let go of
	most    int64 // of holds
	dropped bool
	whole   bool // the whole file was let go of in the end
}

func (d cachedDisk) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	return cachedFile{f, d.cache}, err
}

type cachedFile struct {
	vfs.File
	*cache
}

func (f cachedFile) WillNeed(off, n int64) error {
	f.ahead = max(f.ahead, off+n)
	return nil
}

func (f cachedFile) Cached() (bool, error) { return f.cached, nil }

func (f cachedFile) DontNeed(off, n int64) error {
	f.dropped, f.whole = true, off == 0 && n == 0
	f.holds -= n
	return nil
}

func (f cachedFile) ReadAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if info, err := f.Stat(); err != nil || end < info.Size() { // not the trailer
		f.late = f.late || end > f.ahead
		f.reach = max(f.reach, f.ahead-off)
		f.holds += int64(len(p))
		f.most = max(f.most, f.holds)
	}
	return f.File.ReadAt(p, off)
}

// Verify reads ahead a little, and leaves the page cache as it was: nothing of what it alone read, all that was there.
func TestVerifyAndThePageCache(t *testing.T) {
	for _, cached := range []bool{false, true} {
		c := &cache{cached: cached}
		s := open(t, newDir(t), cachedDisk{vfs.OS(), c})
		ref := mustPut(t, s, string(random(1, 20<<20+100)), "label")
		if _, err := s.Verify(context.Background(), ref, nil); err != nil {
			t.Fatal(err)
		}
		if c.late || c.reach > 2<<20 || c.ahead != 20<<20+100 {
			t.Errorf("cached %v: got late %v, %d bytes ahead, told of %d; want at most 2 MiB, all", cached, c.late, c.reach, c.ahead)
		}
		if c.dropped == cached || c.whole == cached || !cached && c.most > 8<<20 {
			t.Errorf("cached %v: got dropped %v, in the end %v, %d bytes held at most; want 8 MiB", cached, c.dropped, c.whole, c.most)
		}
	}
}
