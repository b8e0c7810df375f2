package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"

	"packhouse/blobstore/vfs"
)

const lossyBlock = 512 // bytes that are on disk together, or not

// written is what is known of a file that was written.
type written struct {
	info  fs.FileInfo // says which file it is
	saved string      // in the grave: a name that lasts

	size  int64   // of the durable file
	sizes []int64 // that it had since; the newest is what it has

	// blocks has the contents that a block had since the last Sync before it got the one it has, the durable one first, by
	// its number. One behind the durable end has none of that: it begins with zeros, which are left out.
	blocks map[int64][][]byte
}

// now is the size as it is.
func (w *written) now() int64 {
	if n := len(w.sizes); n > 0 {
		return w.sizes[n-1]
	}
	return w.size
}

// synced says that all is durable.
func (w *written) synced() {
	w.size, w.sizes, w.blocks = w.now(), nil, nil
}

// resized notes a new size.
func (w *written) resized(size int64) {
	if size != w.now() {
		w.sizes = append(w.sizes, size)
	}
}

// save notes what the blocks of the n bytes from off hold, as far as they are in the file. They are about to change.
func (w *written) save(off, n int64) error {
	first, end := off/lossyBlock, (min(off+n, w.now())+lossyBlock-1)/lossyBlock
	if n <= 0 || first >= end {
		return nil
	}
	file, err := os.Open(w.saved)
	if err != nil {
		return err
	}
	defer file.Close()
	if w.blocks == nil {
		w.blocks = make(map[int64][][]byte)
	}
	for block := first; block < end; block++ {
		content := make([]byte, lossyBlock)
		if _, err := file.ReadAt(content, block*lossyBlock); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		w.blocks[block] = append(w.blocks[block], content)
	}
	return nil
}

// crash gives each block, and the size, what happens to be durable.
func (w *written) crash(random *rand.Rand) error {
	if len(w.sizes) == 0 && len(w.blocks) == 0 {
		return nil
	}
	file, err := os.OpenFile(w.saved, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	kept := 0 // quarters of the blocks that keep what they have
	if random != nil {
		kept = random.IntN(5)
	}
	for _, block := range w.changed() {
		if random == nil && block*lossyBlock >= w.size {
			continue // the file will not be as long
		}
		if random != nil && random.IntN(4) < kept {
			continue
		}
		older := w.blocks[block]
		if block*lossyBlock >= w.size {
			older = append([][]byte{make([]byte, lossyBlock)}, older...)
		}
		content := older[0]
		if random != nil {
			content = older[random.IntN(len(older))]
		}
		if _, err := file.WriteAt(content, block*lossyBlock); err != nil {
			return err
		}
	}
	return file.Truncate(w.chooseSize(random))
}

// changed are the blocks that differ, or once differed, from the durable file; sorted, so that a crash can be repeated.
func (w *written) changed() []int64 {
	blocks := slices.Collect(maps.Keys(w.blocks))
	for block := (w.size + lossyBlock - 1) / lossyBlock; block*lossyBlock < w.now(); block++ {
		if w.blocks[block] == nil {
			blocks = append(blocks, block)
		}
	}
	slices.Sort(blocks)
	return blocks
}

// chooseSize is one that the file had, or one on the way from the durable one to the newest.
func (w *written) chooseSize(random *rand.Rand) int64 {
	if random == nil {
		return w.size
	}
	if n := random.IntN(len(w.sizes) + 2); n < len(w.sizes) {
		return w.sizes[n]
	}
	low, high := min(w.size, w.now()), max(w.size, w.now())
	return low + random.Int64N(high-low+1)
}

// lossyFile is a file being written.
type lossyFile struct {
	vfs.File
	l       *Lossy
	written *written // guarded by l.mu
}

var _ vfs.Allocator = (*lossyFile)(nil)

func (file *lossyFile) Write(p []byte) (int, error) {
	file.l.mu.Lock()
	defer file.l.mu.Unlock()
	off, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	return file.write(p, off, file.File.Write)
}

func (file *lossyFile) WriteAt(p []byte, off int64) (int, error) {
	file.l.mu.Lock()
	defer file.l.mu.Unlock()
	return file.write(p, off, func(p []byte) (int, error) { return file.File.WriteAt(p, off) })
}

// write carries out a write of p at off; l.mu is held.
func (file *lossyFile) write(p []byte, off int64, write func([]byte) (int, error)) (int, error) {
	if file.l.crashed {
		return 0, ErrCrashed
	}
	if err := file.written.save(off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := write(p)
	if n > 0 {
		file.written.resized(max(file.written.now(), off+int64(n)))
	}
	return n, err
}

func (file *lossyFile) Truncate(size int64) error {
	file.l.mu.Lock()
	defer file.l.mu.Unlock()
	if file.l.crashed {
		return ErrCrashed
	}
	cut := file.written.now() - size
	if err := file.written.save(size, cut); err != nil {
		return err
	}
	if err := file.File.Truncate(size); err != nil {
		return err
	}
	// What is written there later comes over zeros.
	if err := file.written.save(size, cut); err != nil {
		return err
	}
	file.written.resized(size)
	return nil
}

func (file *lossyFile) Allocate(off, n int64) error {
	file.l.mu.Lock()
	defer file.l.mu.Unlock()
	if file.l.crashed {
		return ErrCrashed
	}
	inner, ok := file.File.(vfs.Allocator)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := inner.Allocate(off, n); err != nil {
		return err
	}
	file.written.resized(max(file.written.now(), off+n))
	return nil
}

func (file *lossyFile) Sync() error {
	file.l.mu.Lock()
	defer file.l.mu.Unlock()
	if file.l.crashed {
		return ErrCrashed
	}
	file.written.synced()
	return nil
}
