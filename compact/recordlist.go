package compact

import (
	"fmt"
	"os"
	"sync/atomic"

	"packhouse/blobstore/vfs"
	"packhouse/repo/digest"
)

// recordMemory is how many bytes of records a plan keeps in memory; the rest is written to a temporary file. It is enough for some tens of
// thousands of ranges.
const recordMemory = 4 << 20

// recordList is a list of records, in memory up to recordMemory, then in a temporary file that is already unlinked, so that nothing remains
// after a crash. Appending is for one goroutine; reading is safe for many after appending has ended.
type recordList struct {
	dir    string // "" means os.TempDir()
	size   int64
	starts []int64 // where each record begins
	memory []byte
	file   *os.File // nil while all is in memory
	flush  []byte   // of file, not written yet
	users  atomic.Int32

	algorithms map[string]digest.Algorithm // of the operations added, by name
}

// lookup finds an algorithm as it was when an operation was added.
func (l *recordList) lookup(name string) (digest.Algorithm, error) {
	if a, ok := l.algorithms[name]; ok {
		return a, nil
	}
	return digest.Lookup(name)
}

func newRecordList(dir string) *recordList {
	l := &recordList{dir: dir, algorithms: make(map[string]digest.Algorithm)}
	l.users.Store(1)
	return l
}

func (l *recordList) len() int { return len(l.starts) }

func (l *recordList) append(record []byte) error {
	if l.file == nil && len(l.memory)+len(record) > recordMemory {
		f, err := createUnnamed(l.dir)
		if err != nil {
			return fmt.Errorf("keep plan: %w", vfs.WithoutPath(err))
		}
		l.file = f
	}
	l.starts = append(l.starts, l.size)
	l.size += int64(len(record))
	if l.file == nil {
		l.memory = append(l.memory, record...)
		return nil
	}
	l.flush = append(l.flush, record...)
	if len(l.flush) >= 256<<10 {
		return l.sync()
	}
	return nil
}

// sync hands what was appended to the file, so that it can be read.
func (l *recordList) sync() error {
	if len(l.flush) == 0 {
		return nil
	}
	_, err := l.file.Write(l.flush)
	l.flush = l.flush[:0]
	if err != nil {
		return fmt.Errorf("keep plan: %w", vfs.WithoutPath(err))
	}
	return nil
}

// createUnnamed creates a temporary file and unlinks it.
func createUnnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "packhouse-plan-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read returns record i, valid until the next read with the same buffer.
func (l *recordList) read(i int, buffer *[]byte) ([]byte, error) {
	start, end := l.starts[i], l.size
	if i+1 < len(l.starts) {
		end = l.starts[i+1]
	}
	if end <= int64(len(l.memory)) {
		return l.memory[start:end], nil
	}
	n := int(end - start)
	if cap(*buffer) < n {
		*buffer = make([]byte, n)
	}
	b := (*buffer)[:n]
	if _, err := l.file.ReadAt(b, start-int64(len(l.memory))); err != nil {
		return nil, fmt.Errorf("read plan: %w", vfs.WithoutPath(err))
	}
	return b, nil
}

// retain adds a user; each user calls release once.
func (l *recordList) retain() *recordList {
	l.users.Add(1)
	return l
}

func (l *recordList) release() error {
	if l.users.Add(-1) != 0 || l.file == nil {
		return nil
	}
	return l.file.Close()
}

// cursor decodes the operations of a plan, one at a time, with buffers of its own.
type cursor struct {
	records *recordList
	buffer  []byte
	op      Operation
}

// at returns operation i. It is valid until the next call.
func (c *cursor) at(i int) (*Operation, error) {
	b, err := c.records.read(i, &c.buffer)
	if err != nil {
		return nil, err
	}
	if err := decodeOperation(b, &c.op, c.records.lookup); err != nil {
		return nil, err
	}
	return &c.op, nil
}
