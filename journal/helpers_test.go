package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

const (
	smallSegment = 16 << 10
	epoch        = 7
)

// clock gives the times of tests.
func clock() time.Time { return time.Unix(1_700_000_000, 123_456_789) }

// newDir is where a log will be: Create makes it.
func newDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "log")
}

func options(dir string, fsys vfs.FS) journal.Options {
	return journal.Options{Dir: dir, FS: fsys, SegmentSize: smallSegment, Now: clock}
}

// unsynced spares a test, which nobody unplugs, the time of real syncs.
type unsynced struct{ vfs.FS }

type unsyncedFile struct{ vfs.File }

func (f unsynced) Create(name string) (vfs.File, error)    { return noSync(f.FS.Create(name)) }
func (f unsynced) OpenWrite(name string) (vfs.File, error) { return noSync(f.FS.OpenWrite(name)) }
func (unsynced) SyncDir(string) error                      { return nil }
func (unsyncedFile) Sync() error                           { return nil }

func (f unsyncedFile) Allocate(off, n int64) error { return f.File.(vfs.Allocator).Allocate(off, n) }

func noSync(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{file}, nil
}

func quick() vfs.FS { return unsynced{vfs.OS()} }

// content is n bytes that no other seed has.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	random := rand.New(rand.NewPCG(seed, 99))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// record is one as a test appended it, or as Replay found it with its payloads read.
type record struct {
	kind     journal.Kind
	body     []byte
	payloads [][]byte
}

func (r record) String() string {
	text := fmt.Sprintf("kind %d, body of %d bytes", r.kind, len(r.body))
	for _, p := range r.payloads {
		text += fmt.Sprintf(", payload of %d", len(p))
	}
	return text
}

func (r record) equal(other record) bool {
	if r.kind != other.kind || !bytes.Equal(r.body, other.body) || len(r.payloads) != len(other.payloads) {
		return false
	}
	for i := range r.payloads {
		if !bytes.Equal(r.payloads[i], other.payloads[i]) {
			return false
		}
	}
	return true
}

// group is records that were appended together.
type group struct {
	at      journal.Position
	records []record
}

func (g group) String() string { return fmt.Sprintf("group at %d of %d records", g.at, len(g.records)) }

func (g group) equal(other group) bool {
	if g.at != other.at || len(g.records) != len(other.records) {
		return false
	}
	for i := range g.records {
		if !g.records[i].equal(other.records[i]) {
			return false
		}
	}
	return true
}

// makeGroup is one whose size and number of records come by chance from a seed.
func makeGroup(seed uint64) (records []record) {
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range 1 + random.IntN(3) {
		r := record{kind: journal.Kind(1 + random.IntN(3)), body: content(seed*10+uint64(i), random.IntN(600))}
		for j := range random.IntN(3) {
			r.payloads = append(r.payloads, content(seed*1000+uint64(i*10+j), random.IntN(3000)))
		}
		records = append(records, r)
	}
	return records
}

// begin makes the group of records, with each body behind the places of its payloads.
func begin(l *journal.Log, g, after *journal.Group, records []record) ([]journal.Position, error) {
	if err := l.Begin(g, after); err != nil {
		return nil, err
	}
	var places []journal.Position
	for _, r := range records {
		for _, p := range r.payloads {
			at, err := g.Payload(p)
			if err != nil {
				return nil, err
			}
			places = append(places, at)
		}
		if err := g.Record(r.kind, r.body); err != nil {
			return nil, err
		}
	}
	return places, nil
}

// add appends records and returns where their payloads are.
func add(l *journal.Log, records []record) (group, []journal.Position, error) {
	var g journal.Group
	places, err := begin(l, &g, nil, records)
	if err != nil {
		return group{}, nil, err
	}
	err = l.Append(context.Background(), &g)
	return group{g.Start(), records}, places, err
}

func mustAdd(t testing.TB, l *journal.Log, records []record) group {
	t.Helper()
	g, _, err := add(l, records)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// replay opens a log and collects its groups from a position on.
func replay(o journal.Options, from journal.Position) (*journal.Log, []group, error) {
	l, err := journal.Open(o)
	if err != nil {
		return nil, nil, err
	}
	var groups []group
	last := true
	err = l.Replay(context.Background(), from, func(r journal.Replayed) error {
		if last {
			groups = append(groups, group{at: r.Group})
		}
		g := &groups[len(groups)-1]
		if r.Group != g.at || !r.Time.Equal(clock()) || r.Epoch != epoch {
			return fmt.Errorf("record at %d: group %d (want %d), %v, epoch %d", r.Position, r.Group, g.at, r.Time, r.Epoch)
		}
		found := record{kind: r.Kind, body: bytes.Clone(r.Body)}
		for _, p := range r.Payloads {
			b, err := l.ReadPayload(p.At, p.Length, nil)
			if err != nil {
				return err
			}
			found.payloads = append(found.payloads, b)
		}
		g.records = append(g.records, found)
		last = r.Last
		return nil
	})
	if err == nil && !last {
		err = fmt.Errorf("the last group has no end")
	}
	if err != nil {
		_ = l.Close()
		return nil, groups, err
	}
	return l, groups, nil
}

// opened has the log that was last opened for writing in a directory.
var opened sync.Map

// mustReplay opens a log with the groups that are wanted. One that is open there for writing is abandoned.
func mustReplay(t testing.TB, o journal.Options, from journal.Position, want []group) *journal.Log {
	t.Helper()
	if before, ok := opened.Load(o.Dir); ok && !o.ReadOnly {
		before.(*journal.Log).Abandon()
	}
	l, got, err := replay(o, from)
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	if !o.ReadOnly {
		opened.Store(o.Dir, l)
	}
	t.Cleanup(func() { l.Close() })
	wantGroups(t, got, want)
	return l
}

func wantGroups(t testing.TB, got, want []group) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("group %d at %d is missing", i, want[i].at)
		case i >= len(want):
			t.Fatalf("group %d at %d was not wanted", i, got[i].at)
		case !got[i].equal(want[i]):
			t.Fatalf("group %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

// newLog makes an empty one.
func newLog(t testing.TB, o journal.Options) *journal.Log {
	t.Helper()
	if err := journal.Create(o, 0, epoch); err != nil {
		t.Fatal(err)
	}
	return mustReplay(t, o, 0, nil)
}
