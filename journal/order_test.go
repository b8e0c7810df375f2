package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/journal"
)

// calls are those since Reset, as "op name".
func calls(f *vfstest.Failing, dir string) (list []string) {
	for _, call := range f.Calls() {
		name, ok := strings.CutPrefix(call.Name, dir)
		if !ok {
			name = "/.." // the directory above
		}
		list = append(list, string(call.Op)+" "+strings.TrimPrefix(name, "/"))
	}
	return list
}

// TestAppendCost: a group is one write and one sync, and nothing else, while it lies in one segment and in what was set
// aside.
func TestAppendCost(t *testing.T) {
	f := vfstest.NewFailing(quick())
	o := options(newDir(t), f)
	o.SegmentSize = 1 << 20
	l := newLog(t, o)
	mustAdd(t, l, makeGroup(0))
	l.Idle()
	f.Reset()
	for i := range uint64(5) {
		mustAdd(t, l, makeGroup(i))
	}
	want := slices.Repeat([]string{"write 0000000000000000", "sync 0000000000000000"}, 5)
	if got := calls(f, o.Dir); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestAppendAllocates: an append needs no memory that grows with what is appended.
func TestAppendAllocates(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 64 << 20
	l := newLog(t, o)
	payload, body := content(1, 8<<10), content(2, 300)
	var g journal.Group
	append := func() {
		err := l.Begin(&g, nil)
		if err == nil {
			_, err = g.Payload(payload)
		}
		if err == nil {
			err = g.Record(journal.KindRows, body)
		}
		if err == nil {
			err = l.Append(context.Background(), &g)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	append()
	if n := testing.AllocsPerRun(1000, append); n >= 1 {
		t.Errorf("%v allocations for each append", n)
	}
}

// TestOrderOfSyncs: nothing is written to a segment before it is durable under its name, and nothing is acknowledged before
// all that was written of it is synced.
func TestOrderOfSyncs(t *testing.T) {
	f := vfstest.NewFailing(quick())
	o := options(newDir(t), f)
	if err := journal.Create(o, 0, epoch); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mkdir ", "syncdir ..", "create 0000000000000000.new", "write 0000000000000000.new", "sync 0000000000000000.new",
		"rename 0000000000000000", "syncdir ",
	}
	if got := calls(f, o.Dir); !slices.Equal(got, want) {
		t.Errorf("create: got %v, want %v", got, want)
	}
	l := mustReplay(t, o, 0, nil)
	f.Reset()
	acknowledged := []int{0}
	for i := range uint64(40) {
		mustAdd(t, l, makeGroup(i))
		acknowledged = append(acknowledged, len(f.Calls()))
	}
	l.Idle()
	list := calls(f, o.Dir)
	next := l.Segments()[1].First
	for _, s := range l.Segments()[1:] {
		name := fmt.Sprintf("%016x", s.First)
		if s.First != next {
			t.Fatalf("segment at %x, want %x", s.First, next)
		}
		next += smallSegment
		create, written := slices.Index(list, "create "+name+".new"), slices.Index(list, "write "+name)
		if create < 0 || written < 0 {
			t.Fatalf("segment %s was not made: %v", name, list)
		}
		at := create
		for _, step := range []string{"write " + name + ".new", "sync " + name + ".new", "rename " + name, "syncdir "} {
			n := slices.Index(list[at:], step)
			if n < 0 || at+n > written {
				t.Errorf("segment %s: %s is not before the first write: %v", name, step, list[create:written])
				break
			}
			at += n
		}
	}
	unsynced := make(map[string]bool)
	for i, call := range list {
		op, name, _ := strings.Cut(call, " ")
		switch op {
		case "write":
			unsynced[name] = true
		case "sync":
			delete(unsynced, name)
		}
		// What is filled ahead may be under way in the newest segments.
		if slices.Contains(acknowledged[1:], i+1) && unsynced[fmt.Sprintf("%016x", 0)] {
			t.Errorf("acknowledged after call %d, %s, with unsynced bytes", i+1, call)
		}
	}
}

// TestNoSpace: of a group that did not fit nothing is left, whatever the disk keeps of what was written and taken back.
// Groups of one shape take its place, and the power goes at some call while they are appended.
func TestNoSpace(t *testing.T) {
	shape := func(m *model, random *rand.Rand) []record {
		m.seed++
		var records []record
		for i := range 1 + random.Uint64N(4) {
			records = append(records, record{journal.KindRows, content(m.seed*10+i, 500), [][]byte{content(m.seed*10+i+5, 1500)}})
		}
		return records
	}
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 5))
		root := t.TempDir()
		lossy := vfstest.NewLossy(t, root)
		f := vfstest.NewFailing(lossy)
		o := options(filepath.Join(root, "log"), f)
		if seed%3 == 0 {
			o.FS = growing{f}
		}
		l := newLog(t, o)
		m := &model{made: true, seed: seed * 100}
		for range random.IntN(4) {
			m.groups = append(m.groups, mustAdd(t, l, shape(m, random)))
		}
		for {
			l.Idle()
			f.FailOp(vfstest.Write, 1, vfstest.After, syscall.ENOSPC)
			records := shape(m, random)
			for len(records) < 4 {
				records = append(records, shape(m, random)...)
			}
			g, _, err := add(l, records)
			if err != nil {
				if !errors.Is(err, journal.ErrNoSpace) || l.Failed() != nil {
					t.Fatalf("seed %d: got %v, log failed with %v; want ErrNoSpace", seed, err, l.Failed())
				}
				break
			}
			m.groups = append(m.groups, g) // it was a segment made ahead that found no space
		}
		f.StopAt(1+random.IntN(12), vfstest.When(random.IntN(2)), syscall.EIO)
		for !f.Hit() {
			g, _, err := add(l, shape(m, random))
			if err != nil {
				m.doubt = &g
				break
			}
			m.groups = append(m.groups, g)
		}
		_ = l.Close()
		if err := lossy.Crash(random); err != nil {
			t.Fatal(err)
		}
		m.check(t, o.Dir)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// fullAt is a file system on which the first append to one segment finds no space when half of it is written.
type fullAt struct {
	vfs.FS
	segment *atomic.Pointer[string]
}

type fullAtFile struct {
	vfs.File
	f    fullAt
	name string
}

func (f fullAt) OpenWrite(name string) (vfs.File, error) {
	file, err := f.FS.OpenWrite(name)
	if err != nil {
		return nil, err
	}
	return fullAtFile{file, f, filepath.Base(name)}, nil
}

func (f fullAtFile) WriteAt(p []byte, off int64) (int, error) {
	full := f.f.segment.Load()
	if full == nil || *full != f.name || !bytes.HasPrefix(p, []byte("\xa7PHr")) {
		return f.File.WriteAt(p, off)
	}
	f.f.segment.Store(nil)
	n, err := f.File.WriteAt(p[:len(p)/2], off)
	return n, errors.Join(err, syscall.ENOSPC)
}

// TestPlacesAreGivenUp: a group that was begun before another one failed has no place any more, also when the log ends where
// it began.
func TestPlacesAreGivenUp(t *testing.T) {
	fsys := fullAt{quick(), new(atomic.Pointer[string])}
	o := options(newDir(t), fsys)
	l := newLog(t, o)
	large := []record{{kind: journal.KindRows, body: content(1, 9000)}, {kind: journal.KindRows, body: content(2, 9000)}}
	var failing, behind, beside journal.Group
	beginAll := func() {
		t.Helper()
		_, err := begin(l, &failing, nil, large)
		_, besideErr := begin(l, &beside, nil, large)
		_, behindErr := begin(l, &behind, &failing, large)
		if err := errors.Join(err, besideErr, behindErr); err != nil {
			t.Fatal(err)
		}
	}
	beginAll()
	first := mustAdd(t, l, makeGroup(1))
	for _, g := range []*journal.Group{&failing, &beside, &behind} {
		if err := l.Append(context.Background(), g); !errors.Is(err, journal.ErrStale) {
			t.Errorf("another was appended before: got %v, want ErrStale", err)
		}
	}
	beginAll()
	second := fmt.Sprintf("%016x", smallSegment)
	fsys.segment.Store(&second)
	if err := l.Append(context.Background(), &failing); !errors.Is(err, journal.ErrNoSpace) || l.Failed() != nil {
		t.Fatalf("got %v, log failed with %v; want ErrNoSpace", err, l.Failed())
	}
	for _, g := range []*journal.Group{&failing, &beside, &behind} {
		if err := l.Append(context.Background(), g); !errors.Is(err, journal.ErrStale) {
			t.Errorf("after it: got %v, want ErrStale", err)
		}
	}
	names := slices.Sorted(maps.Keys(files(t, o.Dir)))
	if want := []string{"0000000000000000"}; !slices.Equal(names, want) {
		t.Errorf("files %v are left, want %v", names, want)
	}
	mustReplay(t, o, 0, []group{first, mustAdd(t, l, large), mustAdd(t, l, makeGroup(2))})
}

// smallDisk is a file system on which only so many bytes can be set aside or written.
type smallDisk struct {
	vfs.FS
	left *atomic.Int64
}

type smallFile struct {
	vfs.File
	d smallDisk
}

func (d smallDisk) Create(name string) (vfs.File, error) { return d.file(d.FS.Create(name)) }
func (d smallDisk) OpenWrite(name string) (vfs.File, error) {
	return d.file(d.FS.OpenWrite(name))
}

func (d smallDisk) file(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return smallFile{file, d}, nil
}

// grow takes the bytes by which a file grows.
func (f smallFile) grow(end int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	grown := max(end-info.Size(), 0)
	if f.d.left.Add(-grown) < 0 {
		f.d.left.Add(grown)
		return syscall.ENOSPC
	}
	return nil
}

func (f smallFile) Allocate(off, n int64) error {
	if err := f.grow(off + n); err != nil {
		return err
	}
	return f.File.(vfs.Allocator).Allocate(off, n)
}

// TestFullDisk: on a full disk nothing is appended and nothing lost; when there is space again, the log goes on.
func TestFullDisk(t *testing.T) {
	var left atomic.Int64
	left.Store(100_000)
	o := options(newDir(t), smallDisk{quick(), &left})
	l := newLog(t, o)
	var want []group
	fill := func() {
		t.Helper()
		for i := range uint64(1000) {
			g, _, err := add(l, makeGroup(uint64(len(want))+i))
			if err == nil {
				want = append(want, g)
				continue
			}
			if !errors.Is(err, journal.ErrNoSpace) || l.Failed() != nil {
				t.Fatalf("got %v, log failed with %v; want ErrNoSpace", err, l.Failed())
			}
			return
		}
		t.Fatal("the disk is never full")
	}
	for range 3 {
		before := len(want)
		fill()
		if len(want) < before+5 {
			t.Errorf("%d groups fit", len(want)-before)
		}
		for range 3 {
			if _, _, err := add(l, []record{{kind: journal.KindRows, body: content(1, 12_000)}}); !errors.Is(err, journal.ErrNoSpace) {
				t.Errorf("once more: got %v, want ErrNoSpace", err)
			}
		}
		left.Add(100_000)
	}
	fill()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustReplay(t, o, 0, want)
}
