package compact_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo/datadir"
)

// hintedDisk holds what is read against what it was told before.
type hintedDisk struct {
	vfs.FS
	*hints
}

type hints struct {
	mu      sync.Mutex
	told    map[string]bool // by file and KiB in it: it was told of that
	opens   map[string]int
	pending int64 // bytes told of and not read yet
	most    int64 // of pending
	late    int   // reads of bytes it was not told of
	reads   int64 // bytes
}

func (d hintedDisk) Open(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opens[name]++
	if filepath.Ext(name) == ".sums" {
		return f, err
	}
	return hintedFile{f, name, d.hints}, err
}

type hintedFile struct {
	vfs.File
	name string
	*hints
}

func (f hintedFile) WillNeed(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at := off >> 10; at <= (off+n-1)>>10; at++ {
		f.told[fmt.Sprint(f.name, at)] = true
	}
	f.pending += n
	f.most = max(f.most, f.pending)
	return nil
}

func (hintedFile) Cached() (bool, error)       { return true, nil }
func (hintedFile) DontNeed(off, n int64) error { panic("of a file that is in memory") }

func (f hintedFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending -= int64(len(p))
	f.reads += int64(len(p))
	for at := off >> 10; at <= (off+int64(len(p))-1)>>10; at++ {
		if !f.told[fmt.Sprint(f.name, at)] {
			f.late++
			break
		}
	}
	return f.File.ReadAt(p, off)
}

// The disk is told of every block with a range before it is read, of no others, and not of much at once; also across sources,
// none of which is opened more often for that.
func TestReadAhead(t *testing.T) {
	h := &hints{told: make(map[string]bool), opens: make(map[string]int)}
	p := newFixture(t, func(so *datadir.Options, _ *compact.Options) { so.FS, so.Index.FS = hintedDisk{vfs.OS(), h}, vfs.OS() })
	const size, block = 3 << 20, 64 << 10
	op := compact.Operation{Target: "out"}
	var want []byte
	blocks := int64(0)
	for i := range 12 {
		key := fmt.Sprintf("source%02d", i)
		body := bytes.Repeat([]byte(fmt.Sprintf("%02d", i)), size/2)
		p.put(key, body)
		for at := int64(0); at < size; at += 2 * block { // a part of every second block lives
			op.Ranges = append(op.Ranges, compact.Range{Key: key, Offset: at + 100, Length: 60 << 10})
			want = append(want, body[at+100:at+100+60<<10]...)
			blocks++
		}
	}
	h.opens = make(map[string]int)
	p.mustRun(op)
	h.mu.Lock()
	if h.late > 0 || h.pending != 0 || h.reads != blocks*block || h.most > 5<<20 || h.most < 2<<20 {
		t.Errorf("got %d late reads of %d bytes, %d bytes told of in vain, and %d at once; want 0 of %d, 0, 2 to 5 MiB",
			h.late, h.reads, h.pending, h.most, blocks*block)
	}
	for name, n := range h.opens {
		if n > 1 {
			t.Errorf("%s was opened %d times", filepath.Base(name), n)
		}
	}
	h.mu.Unlock()
	p.want("out", string(want))
}
