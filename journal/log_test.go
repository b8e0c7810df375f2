package journal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// TestAppendAndReplay: what was appended is there again, whole and in order, after a stop and without one, over several
// segments.
func TestAppendAndReplay(t *testing.T) {
	file := map[string]func() vfs.FS{"with allocation": quick, "growing files": func() vfs.FS { return vfs.NewMemory(1 << 20) }}
	for name, fsys := range file {
		t.Run(name, func(t *testing.T) {
			dir := "/log"
			if name == "with allocation" {
				dir = newDir(t)
			}
			o := options(dir, fsys())
			l := newLog(t, o)
			var want []group
			for round := range uint64(6) {
				for i := range uint64(5) {
					want = append(want, mustAdd(t, l, makeGroup(round*10+i)))
				}
				end := l.End()
				if round%2 == 0 { // else it is as after a crash
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
				}
				l = mustReplay(t, o, 0, want)
				if l.End() != end {
					t.Errorf("round %d: log ends at %d, want %d", round, l.End(), end)
				}
			}
			if n := len(l.Segments()); n < 5 {
				t.Errorf("all lies in %d segments: nothing was tried", n)
			}
			for i, g := range want {
				from := g.at
				again, got, err := replay(journal.Options{Dir: dir, FS: o.FS, SegmentSize: smallSegment, ReadOnly: true}, from)
				if err != nil {
					// The times and epochs are looked at by replay; o has the same clock.
					t.Fatal(err)
				}
				again.Close()
				wantGroups(t, got, want[i:])
			}
		})
	}
}

// TestSkip: a group that skips the rest of a segment is read without that, and tells that it lies in one segment; one that
// reaches over its end does not.
func TestSkip(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	mustAdd(t, l, makeGroup(0))
	var skipped, long journal.Group
	if err := errors.Join(l.Begin(&skipped, nil), skipped.Skip()); err != nil {
		t.Fatal(err)
	}
	at, err := skipped.Payload(content(1, 300))
	if err = errors.Join(err, skipped.Record(journal.KindRows, content(2, 30)), l.Append(t.Context(), &skipped)); err != nil {
		t.Fatal(err)
	}
	if err := l.Begin(&long, nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := long.Payload(content(3, int(o.SegmentSize/2))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(long.Record(journal.KindRows, nil), l.Append(t.Context(), &long)); err != nil {
		t.Fatal(err)
	}
	if !skipped.InOne() || long.InOne() || skipped.Segment() != journal.Position(o.SegmentSize) {
		t.Errorf("in one segment: %v, that at %d, and %v", skipped.InOne(), skipped.Segment(), long.InOne())
	}
	if err := errors.Join(l.RemoveSegment(0), l.Close()); err != nil {
		t.Fatal(err)
	}
	o.ReadOnly = true
	l, err = journal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var bodies int
	found, err := l.Salvage(t.Context(), 0, 0, func(r journal.Replayed, _ bool) error {
		bodies += len(r.Body)
		return nil
	})
	if err != nil || found.Groups != 2 || bodies != 30 {
		t.Errorf("salvage: %+v, %v, bodies of %d bytes", found, err, bodies)
	}
	if b, err := l.ReadPayload(at, 300, nil); err != nil || !bytes.Equal(b, content(1, 300)) {
		t.Errorf("payload: %d bytes, %v", len(b), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLargeGroup: a group reaches over several segments, and a record's payloads do.
func TestLargeGroup(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	var records []record
	for i := range uint64(9) {
		r := record{kind: journal.KindRows, body: content(i, 5000)}
		for j := range i {
			r.payloads = append(r.payloads, content(i*10+j, 1000*int(j)))
		}
		records = append(records, r)
	}
	want := []group{mustAdd(t, l, makeGroup(1)), mustAdd(t, l, records), mustAdd(t, l, makeGroup(2))}
	if n := len(l.Segments()); n < 6 {
		t.Errorf("all lies in %d segments: nothing was tried", n)
	}
	mustReplay(t, o, 0, want)
}

func TestPayloads(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 1 << 20
	l := newLog(t, o)
	sizes := []int{0, 1, 100, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000}
	var r record
	for i, size := range sizes {
		r.payloads = append(r.payloads, content(uint64(i), size))
	}
	r.kind = journal.KindRows
	_, places, err := add(l, []record{r})
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 0, 300_000)
	for i, want := range r.payloads {
		got, err := l.ReadPayload(places[i], int64(len(want)), buffer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("payload of %d bytes: got %d, %v", len(want), len(got), err)
		}
		p, err := l.OpenPayload(places[i], int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("payload of %d bytes, read as a stream: got %d, %v", len(want), len(got), err)
		}
		for _, from := range []int{0, 1, 70_000, 131_072} {
			for _, n := range []int{0, 1, 65_536, 100_000} {
				if from+n > len(want) {
					continue
				}
				b := make([]byte, n)
				if _, err := p.ReadAt(b, int64(from)); err != nil || !bytes.Equal(b, want[from:from+n]) {
					t.Errorf("payload of %d bytes, %d from %d: %v", len(want), n, from, err)
				}
			}
		}
		if n, err := p.ReadAt(make([]byte, 10), int64(len(want))); n != 0 || err != io.EOF {
			t.Errorf("at the end: got %d, %v; want EOF", n, err)
		}
		if err := errors.Join(p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
	}
	for _, wrong := range []struct {
		at     journal.Position
		length int64
		want   error
	}{
		{places[2], 99, journal.ErrCorrupt},
		{places[2] + 1, 100, journal.ErrCorrupt},
		{places[6], 150_000, journal.ErrCorrupt},
		{0, 10, journal.ErrCorrupt},
		{l.End(), 1, journal.ErrBeyondEnd},
		{places[6], 1 << 40, journal.ErrPosition},
		{places[6], -1, journal.ErrPosition},
		{-5, 1, journal.ErrPosition},
		{1<<63 - 1, 1, journal.ErrBeyondEnd},
	} {
		if _, err := l.ReadPayload(wrong.at, wrong.length, nil); !errors.Is(err, wrong.want) {
			t.Errorf("read %d at %d: got %v, want %v", wrong.length, wrong.at, err, wrong.want)
		}
		if _, err := l.OpenPayload(wrong.at, wrong.length); !errors.Is(err, wrong.want) {
			t.Errorf("open %d at %d: got %v, want %v", wrong.length, wrong.at, err, wrong.want)
		}
	}
}

// TestBeginAhead: a group is begun, and knows its places, while the one before it is not appended yet.
func TestBeginAhead(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	groups := make([]journal.Group, 30)
	var after *journal.Group
	var want []group
	for i := range groups {
		records := makeGroup(uint64(i))
		if _, err := begin(l, &groups[i], after, records); err != nil {
			t.Fatal(err)
		}
		after = &groups[i]
		want = append(want, group{after.Start(), records})
	}
	if err := l.Append(context.Background(), &groups[1]); !errors.Is(err, journal.ErrStale) {
		t.Errorf("the second before the first: got %v, want ErrStale", err)
	}
	for i := range groups {
		if err := l.Append(context.Background(), &groups[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Append(context.Background(), &groups[3]); !errors.Is(err, journal.ErrStale) {
		t.Errorf("one again: got %v, want ErrStale", err)
	}
	mustReplay(t, o, 0, want)
}

// TestPipeline: while a group is being appended, the next one is made.
func TestPipeline(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	var groups [2]journal.Group
	var want []group
	appended := make(chan error, 1)
	appended <- nil
	var after *journal.Group
	for i := range uint64(100) {
		g, records := &groups[i%2], makeGroup(i)
		if _, err := begin(l, g, after, records); err != nil {
			t.Fatal(err)
		}
		want = append(want, group{g.Start(), records})
		if err := <-appended; err != nil {
			t.Fatal(err)
		}
		go func() { appended <- l.Append(context.Background(), g) }()
		after = g
	}
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	mustReplay(t, o, 0, want)
}

func TestAppendRecords(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	done, err := l.AppendRecords(context.Background(), []journal.Record{
		{Kind: journal.KindRows, Body: []byte("rows"), Payloads: [][]byte{[]byte("one"), []byte("two")}},
		{Kind: journal.KindSeal, Payloads: [][]byte{[]byte("three")}},
	})
	if err != nil || done.End != l.End() || len(done.Payloads) != 3 {
		t.Fatalf("got %+v, %v; the log ends at %d", done, err, l.End())
	}
	mustReplay(t, o, 0, []group{{done.Position, []record{
		{journal.KindRows, []byte("rows"), [][]byte{[]byte("one"), []byte("two")}},
		{journal.KindSeal, nil, [][]byte{[]byte("three")}},
	}}})
}

func TestRemove(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	var want []group
	var places []journal.Position
	for i := range uint64(12) {
		g, at, err := add(l, []record{{kind: journal.KindRows, payloads: [][]byte{content(i, 7000)}}})
		if err != nil {
			t.Fatal(err)
		}
		want, places = append(want, g), append(places, at[0])
	}
	segments := l.Segments()
	if len(segments) != 12 {
		t.Fatalf("got %d segments, want one for each group", len(segments))
	}
	var planned journal.Group
	after, err := begin(l, &planned, nil, []record{{kind: journal.KindRows, payloads: [][]byte{content(1, 7000)}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range append(slices.Clone(places), after...) {
		if first, ok := l.SegmentOf(at); !ok || first != journal.Position(i)*smallSegment {
			t.Errorf("payload %d is in segment %d, %v", i, first, ok)
		}
	}
	open, err := l.OpenPayload(places[1], 7000)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := l.Remove(segments[3].First + 1); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveSegment(segments[6].First); err != nil {
		t.Fatal(err)
	}
	if got := len(l.Segments()); got != 8 {
		t.Errorf("%d segments are left, want 8", got)
	}
	if first, ok := l.SegmentOf(places[0]); ok {
		t.Errorf("what was removed is in segment %d", first)
	}
	if got, err := io.ReadAll(io.NewSectionReader(open, 0, 7000)); err != nil || !bytes.Equal(got, content(1, 7000)) {
		t.Errorf("payload that was open: %d bytes, %v", len(got), err)
	}
	for i, at := range places {
		gone := i < 3 || i == 6
		if _, err := l.ReadPayload(at, 7000, nil); gone != errors.Is(err, journal.ErrRemoved) || !gone && err != nil {
			t.Errorf("payload %d: got %v, removed is %v", i, err, gone)
		}
	}
	if err := l.Remove(1 << 62); err != nil || len(l.Segments()) != 1 {
		t.Errorf("remove all: %v, %d segments left, want the one in which the log ends", err, len(l.Segments()))
	}
	mustReplay(t, o, segments[11].First, want[11:])
	for from, wanted := range map[journal.Position]error{0: journal.ErrRemoved, 1 << 40: journal.ErrBeyondEnd} {
		if _, _, err := replay(o, from); !errors.Is(err, wanted) {
			t.Errorf("replay from %d: got %v, want %v", from, err, wanted)
		}
	}
}

func TestReplayFrom(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	var want []group
	for i := range uint64(20) {
		want = append(want, mustAdd(t, l, makeGroup(i)))
	}
	end := l.End()
	for _, closed := range []bool{false, true} {
		if closed {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for from, wanted := range map[journal.Position]error{
			end: nil, want[3].at + 1: journal.ErrPosition, want[3].at - 1: journal.ErrPosition, end + 1: journal.ErrBeyondEnd, end - 1: journal.ErrPosition,
			end + 100: journal.ErrBeyondEnd, 1: nil, 4096: nil,
		} {
			o := o
			o.ReadOnly = true
			if _, _, err := replay(o, from); !errors.Is(err, wanted) || wanted == nil && err != nil {
				t.Errorf("closed %v, from %d: got %v, want %v", closed, from, err, wanted)
			}
		}
	}
	if err := os.Remove(filepath.Join(o.Dir, "0000000000004000")); err != nil {
		t.Fatal(err)
	}
	for _, from := range []journal.Position{0, 0x4000, 0x4000 + 4096} {
		if _, _, err := replay(o, from); !errors.Is(err, journal.ErrMissing) {
			t.Errorf("a segment is missing, from %d: got %v, want ErrMissing", from, err)
		}
	}
}

func TestCreate(t *testing.T) {
	o := options(newDir(t), quick())
	if _, err := journal.Open(o); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("open what is not there: got %v, want ErrNotFound", err)
	}
	if err := journal.Create(o, 1000, epoch); err != nil {
		t.Fatal(err)
	}
	if err := journal.Create(o, 1000, epoch); !errors.Is(err, journal.ErrExists) {
		t.Errorf("create again: got %v, want ErrExists", err)
	}
	l := mustReplay(t, o, 1000, nil)
	if l.End() != 5096 || l.Identity() == 0 {
		t.Errorf("end %d, identity %d; want 5096, a number", l.End(), l.Identity())
	}
	for _, bad := range []journal.Options{{}, {Dir: "x", SegmentSize: 100}, {Dir: "x", SegmentSize: 1 << 40}} {
		if err := journal.Create(bad, 0, 0); err == nil {
			t.Errorf("options %+v were taken", bad)
		}
	}
}

// TestOrderOfCalls: what is called when it may not be is refused.
func TestOrderOfCalls(t *testing.T) {
	o := options(newDir(t), quick())
	if err := journal.Create(o, 0, epoch); err != nil {
		t.Fatal(err)
	}
	l, err := journal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var g journal.Group
	if err := l.Begin(&g, nil); err == nil {
		t.Error("a group was begun before the replay")
	}
	ignore := func(journal.Replayed) error { return nil }
	if err := l.Replay(context.Background(), 0, ignore); err != nil {
		t.Fatal(err)
	}
	if err := l.Replay(context.Background(), 0, ignore); err == nil {
		t.Error("replayed twice")
	}
	if err := l.Begin(&g, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(context.Background(), &g); err == nil {
		t.Error("an empty group was appended")
	}
	if _, err := g.Payload([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(context.Background(), &g); err == nil {
		t.Error("a group with an open record was appended")
	}
	if err := g.Record(0, nil); err == nil {
		t.Error("kind 0 was taken")
	}
	if err := g.Record(journal.KindRows, make([]byte, l.MaxRecord()+1)); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("a large body: got %v, want ErrTooLarge", err)
	}
	if _, err := g.Payload(make([]byte, l.MaxRecord()-7)); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("a large payload: got %v, want ErrTooLarge", err)
	}
	if _, err := g.Payload(make([]byte, l.MaxRecord()-8)); err != nil {
		t.Errorf("the largest payload: %v", err)
	}
	if err := g.Record(journal.KindRows, make([]byte, l.MaxRecord())); err != nil {
		t.Errorf("the largest body: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Append(ended, &g); !errors.Is(err, context.Canceled) {
		t.Errorf("append after the end of ctx: got %v", err)
	}
	if err := l.Append(context.Background(), &g); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Payload(nil); err == nil {
		t.Error("a payload was added to a group that is appended")
	}
	if err := g.Record(journal.KindRows, nil); err == nil {
		t.Error("a record was added to a group that is appended")
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	_, readErr := l.ReadPayload(5000, 1, nil)
	for name, err := range map[string]error{
		"begin": l.Begin(&g, nil), "remove": l.Remove(0), "read": readErr, "replay": l.Replay(context.Background(), 0, ignore),
	} {
		if !errors.Is(err, journal.ErrClosed) {
			t.Errorf("%s after close: got %v, want ErrClosed", name, err)
		}
	}
}

// TestEndAppends: a log that takes no changes any more ends where its records do, and is read until it is closed.
func TestEndAppends(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	records := []record{{kind: journal.KindRows, body: []byte("rows"), payloads: [][]byte{[]byte("payload")}}}
	g, places, err := add(l, records)
	if err != nil {
		t.Fatal(err)
	}
	end := l.End()
	if err := errors.Join(l.EndAppends(), l.EndAppends()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(o.Dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of the log: %q, %v, want one segment", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || journal.Position(info.Size()) != end {
		t.Errorf("the segment: %v, %v, want %d bytes", info, err, end)
	}
	if got, err := l.ReadPayload(places[0], 7, nil); err != nil || string(got) != "payload" {
		t.Errorf("read: got %q, %v", got, err)
	}
	var more journal.Group
	for name, err := range map[string]error{"begin": l.Begin(&more, nil), "remove": l.Remove(0)} {
		if !errors.Is(err, journal.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
	// What another has appended meanwhile is not cut off.
	other := mustReplayBeside(t, o, []group{g})
	next := mustAdd(t, other, records)
	if err := errors.Join(l.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	mustReplayBeside(t, o, []group{g, next})
}

// mustReplayBeside opens a log as another process does, whatever this one has open there.
func mustReplayBeside(t *testing.T, o journal.Options, want []group) *journal.Log {
	t.Helper()
	l, got, err := replay(o, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	wantGroups(t, got, want)
	return l
}
