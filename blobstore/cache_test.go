package blobstore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"packhouse/blobstore"
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
	read    bool // something was read
}

func (d cachedDisk) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	if err != nil || filepath.Ext(name) == ".sums" {
		return f, err
	}
	return cachedFile{f, d.cache}, nil
}

type cachedFile struct {
	vfs.File
	*cache
}

func (f cachedFile) WillNeed(off, n int64) error {
	f.ahead = max(f.ahead, off+n)
	return nil
}

func (f cachedFile) Cached() (bool, error) { return f.cached || f.read, nil }

func (f cachedFile) DontNeed(off, n int64) error {
	f.dropped, f.whole = true, off == 0 && n == 0
	f.holds -= n
	return nil
}

func (f cachedFile) ReadAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	f.read = true
	if off < 20<<20+100 && off%(256<<10) == 0 { // not the trailer
		f.late = f.late || end > f.ahead
		f.reach = max(f.reach, f.ahead-off)
		f.holds += int64(len(p))
		f.most = max(f.most, f.holds)
	}
	return f.File.ReadAt(p, off)
}

// Verify reads ahead a little, and leaves the page cache as it was: nothing of what it alone read, all that was there.
func TestVerifyAndThePageCache(t *testing.T) {
	for n := range 4 {
		cached, trailed := n%2 == 1, n/2 == 1
		c := &cache{cached: cached}
		dir := newDir(t)
		s := open(t, dir, cachedDisk{vfs.OS(), c})
		content := random(1, 20<<20+100)
		ref := blobstore.TrailedRefOf(goldenName)
		if trailed {
			if err := os.WriteFile(blobPath(dir, ref), blobstore.AppendTrailer(content, nil, infoOf(content)), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			ref = mustPut(t, s, string(content), "label")
		}
		if _, err := s.Verify(context.Background(), ref, asStored); err != nil {
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
