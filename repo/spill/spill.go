// Package spill sorts rows by their keys in bounded memory: what does not fit is in a temporary file. It knows
// nothing of repositories, and promises nothing beyond the life of the process: the file loses its name as soon as it is open.
//
// Rows are gathered in memory. When they have Options.Memory bytes, they are written to the file in order, as a run, and gathering begins
// anew. To read them all in order is to merge the runs. To find single rows, runs are made one when they are many, and one key is remembered
// for each 16 KiB of a run. What they were made of stays in the file until that is closed.
//
// A row in a run: length of the key, key, length of the value, value; lengths are unsigned varints.
//
// Start reading at Table.
package spill

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"packhouse/blobstore/vfs"
)

// Options of New. FS and Path are required.
type Options struct {
	FS   vfs.FS
	Path string // of the file, which must not exist and is made when it is needed
	// Memory is how many bytes of rows are gathered; 0: 8 MiB.
	Memory int
	// Merge makes one value of two that were put under one key, one after the other. It may use their memory. nil: the newer one. It must not matter
	// which of several neighbours are merged first.
	Merge func(older, newer []byte) []byte
}

// A Table has one value for each key. It must be closed. It is not safe for concurrent use.
type Table struct {
	o      Options
	rows   map[string][]byte // that are in no run yet
	memory int               // of rows
	file   vfs.File          // nil: there are no runs
	end    int64             // of the file
	runs   []run             // in the order in which they were gathered
	part   []byte            // of the file, that was read last
}

// A run is rows in order, in a part of the file.
type run struct {
	begin, end int64
	marks      []mark
}

// A mark is where a row begins, with its key.
type mark struct {
	key string
	at  int64
}

const (
	memoryOfTable = 8 << 20
	memoryOfRow   = 100 // about what a row takes beside its key and value
	markEvery     = 16 << 10
	readAhead     = 32 << 10 // of each run that is merged
	maxRuns       = 4        // in which rows are looked for
	maxField      = 1 << 20  // of a key or value
)

// New makes an empty table.
func New(o Options) *Table {
	if o.Memory == 0 {
		o.Memory = memoryOfTable
	}
	if o.Merge == nil {
		o.Merge = func(_, newer []byte) []byte { return newer }
	}
	return &Table{o: o, rows: make(map[string][]byte)}
}

// Close gives up the rows, and the file.
func (t *Table) Close() error {
	t.rows, t.runs = nil, nil
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// Put adds a row, or merges its value into that of its key. value must not be modified afterwards. Keys and values have at most 1 MiB. Errors: those of
// the file system; then nothing more can be done with the table.
func (t *Table) Put(key string, value []byte) error {
	if older, there := t.rows[key]; there {
		t.memory -= len(older)
		value = t.o.Merge(older, value)
	} else {
		t.memory += len(key) + memoryOfRow
	}
	t.rows[key] = value
	if t.memory += len(value); t.memory < t.o.Memory {
		return nil
	}
	return t.writeRun()
}

// Each calls fn with all rows in the order of their keys, until one call returns an error. value is valid during the call. fn may put rows:
// this Each does not come to them.
func (t *Table) Each(fn func(key string, value []byte) error) error {
	m := merger{merge: t.o.Merge}
	for _, r := range t.runs {
		m.sources = append(m.sources, &source{in: bufio.NewReaderSize(io.NewSectionReader(t.file, r.begin, r.end-r.begin), readAhead)})
	}
	m.sources = append(m.sources, &source{keys: slices.Sorted(maps.Keys(t.rows)), rows: maps.Clone(t.rows)})
	return m.each(fn)
}

// sort makes one run of all rows, behind the others: an Each may still read those.
func (t *Table) sort() error {
	w := t.writer()
	if err := t.Each(w.put); err != nil {
		return err
	}
	r, err := w.finish()
	if err != nil {
		return err
	}
	t.rows, t.memory, t.runs, t.end = make(map[string][]byte), 0, []run{r}, r.end
	return nil
}

// Get returns the value of a key, with one read for each run; nil: it has none, or an empty one.
func (t *Table) Get(key string) (value []byte, err error) {
	if len(t.runs) > maxRuns {
		if err := t.sort(); err != nil {
			return nil, err
		}
	}
	for _, r := range t.runs {
		found, err := t.find(&r, key)
		if err != nil {
			return nil, err
		}
		value = t.merged(value, found)
	}
	return t.merged(value, t.rows[key]), nil
}

func (t *Table) merged(older, newer []byte) []byte {
	switch {
	case older == nil:
		return newer
	case newer == nil:
		return older
	}
	return t.o.Merge(older, newer)
}

// find looks for a key in the part of a run between two marks.
func (t *Table) find(r *run, key string) ([]byte, error) {
	i, exact := slices.BinarySearchFunc(r.marks, key, func(m mark, key string) int { return strings.Compare(m.key, key) })
	if !exact {
		i--
	}
	if i < 0 {
		return nil, nil
	}
	end := r.end
	if i+1 < len(r.marks) {
		end = r.marks[i+1].at
	}
	t.part = slices.Grow(t.part[:0], int(end-r.marks[i].at))[:end-r.marks[i].at]
	if _, err := t.file.ReadAt(t.part, r.marks[i].at); err != nil {
		return nil, failed(err)
	}
	for part := t.part; len(part) > 0; {
		var at, value []byte
		var ok bool
		if at, part, ok = cutField(part); ok {
			value, part, ok = cutField(part)
		}
		switch {
		case !ok:
			return nil, errDamaged
		case string(at) == key:
			return bytes.Clone(value), nil
		case string(at) > key:
			return nil, nil
		}
	}
	return nil, nil
}

// failed is an error of the file, without its path.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("temporary file: %w", vfs.WithoutPath(err))
}

// errDamaged is of a file that has other bytes than were written.
var errDamaged = errors.New("a temporary file was not read as it was written")

// cutField takes a length and so many bytes from b.
func cutField(b []byte) (field, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size:][:n], b[size+int(n):], true
}

// writeRun moves the rows in memory to the file.
func (t *Table) writeRun() error {
	if t.file == nil {
		if err := t.create(); err != nil {
			return err
		}
	}
	w := t.writer()
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		if err := w.put(key, t.rows[key]); err != nil {
			return err
		}
	}
	r, err := w.finish()
	if err != nil {
		return err
	}
	t.rows, t.memory, t.end = make(map[string][]byte), 0, r.end
	t.runs = append(t.runs, r)
	return nil
}

// create makes the file, and takes its name away.
func (t *Table) create() error {
	file, err := t.o.FS.Create(t.o.Path)
	if err != nil {
		return failed(err)
	}
	err = file.Close()
	if err == nil {
		t.file, err = t.o.FS.OpenWrite(t.o.Path)
	}
	return failed(cmp.Or(err, t.o.FS.Remove(t.o.Path)))
}

// writer writes a run behind the others.
type writer struct {
	out  *bufio.Writer
	run  run
	head []byte
}

func (t *Table) writer() *writer {
	return &writer{out: bufio.NewWriterSize(io.NewOffsetWriter(t.file, t.end), readAhead), run: run{begin: t.end, end: t.end}}
}

func (w *writer) put(key string, value []byte) error {
	r := &w.run
	if n := len(r.marks); n == 0 || r.end-r.marks[n-1].at >= markEvery {
		r.marks = append(r.marks, mark{strings.Clone(key), r.end})
	}
	w.head = append(binary.AppendUvarint(w.head[:0], uint64(len(key))), key...)
	w.head = binary.AppendUvarint(w.head, uint64(len(value)))
	r.end += int64(len(w.head) + len(value))
	if _, err := w.out.Write(w.head); err != nil {
		return failed(err)
	}
	_, err := w.out.Write(value)
	return failed(err)
}

func (w *writer) finish() (run, error) { return w.run, failed(w.out.Flush()) }
