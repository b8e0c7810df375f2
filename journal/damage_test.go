package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"packhouse/blobstore/vfs/vfstest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"packhouse/internal/sampling"
	"packhouse/journal"
)

// files reads a directory.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, entry := range entries {
		if all[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func write(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// small makes a log of two segments and some groups, and tells where records begin.
func small(t testing.TB, o journal.Options) (groups []group, starts []journal.Position, end journal.Position) {
	t.Helper()
	l := newLog(t, o)
	payloads := func(seed uint64, sizes ...int) (all [][]byte) {
		for i, size := range sizes {
			all = append(all, content(seed+uint64(i), size))
		}
		return all
	}
	for _, records := range [][]record{
		{{journal.KindRows, []byte("one"), nil}},
		{{journal.KindRows, []byte("two"), payloads(10, 300, 0, 20)}, {journal.KindSeal, nil, payloads(20, 70)}},
		{{journal.KindRows, []byte("three"), payloads(30, 2500)}, {journal.KindRows, []byte("goes on in the second"), payloads(40, 900, 900)}},
		{{journal.KindRelocation, []byte("four"), payloads(50, 10)}},
		{{journal.KindRows, []byte("five"), payloads(60, 200)}, {journal.KindRows, content(70, 150), nil}},
	} {
		groups = append(groups, mustAdd(t, l, records))
	}
	end = l.End()
	if len(l.Segments()) != 2 {
		t.Fatalf("got %d segments, want 2", len(l.Segments()))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := journal.Positions(o)
	if err != nil {
		t.Fatal(err)
	}
	return groups, found, end
}

// TestEveryByte damages each byte of a log. What was acknowledged is there, or the place is named; only the last group
// cannot be told from one that was being written. Nothing is changed where damage is found.
func TestEveryByte(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	groups, starts, end := small(t, o)
	last := groups[len(groups)-1].at
	pristine := files(t, o.Dir)
	random := rand.New(rand.NewPCG(3, 4))
	counts := make(map[string]int)
	share := sampling.NewShare(t, 4)
	for _, name := range slices.Sorted(maps.Keys(pristine)) {
		whole := pristine[name]
		var first journal.Position
		fmt.Sscanf(name, "%x", &first)
		for off := range whole {
			if !share.Takes() {
				continue
			}
			at := first + journal.Position(off)
			damaged := bytes.Clone(whole)
			damaged[off] ^= 1 << random.IntN(8)
			write(t, o.Dir, name, damaged)
			o.ReadOnly = random.IntN(2) == 0
			l, got, err := replay(o, 0)
			if err == nil {
				l.Close()
			}
			place := fmt.Sprintf("%s, byte %d", name, off)
			i, _ := slices.BinarySearch(starts, at+1) // starts[i-1] is of the record at that place
			switch {
			case off < 4096:
				counts["header"]++
				wantDamage(t, place, err, name, 0)
			case at >= last && at < end:
				counts["last"]++
				if err != nil {
					t.Fatalf("%s: got %v, want the last group to be dropped", place, err)
				}
				wantGroups(t, got, groups[:len(groups)-1])
				if d := l.Dropped(); d == nil || d.File != name || d.Offset != int64(starts[i-1]-first) {
					t.Errorf("%s: dropped %v", place, d)
				}
			case at >= unusedFrom(starts) && at < 0x2000:
				counts["unused"]++
				if err != nil {
					t.Fatalf("%s, which is not used: %v", place, err)
				}
				wantGroups(t, got, groups)
				if d := l.Dropped(); d != nil {
					t.Errorf("%s: dropped %v", place, d)
				}
			default:
				counts["middle"]++
				wantDamage(t, place, err, name, int64(starts[i-1]-first))
			}
			if err != nil {
				if now := files(t, o.Dir); !bytes.Equal(now[name], damaged) || len(now) != len(pristine) {
					t.Errorf("%s: files were changed", place)
				}
			}
			for name, whole := range pristine {
				write(t, o.Dir, name, whole)
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Log(counts)
	for _, kind := range []string{"header", "last", "unused", "middle"} {
		if counts[kind] < 20 {
			t.Errorf("%d bytes of kind %q", counts[kind], kind)
		}
	}
}

// unusedFrom is where the first segment has nothing any more.
func unusedFrom(starts []journal.Position) journal.Position {
	i, _ := slices.BinarySearch(starts, 0x2000)
	return starts[i-1] + journal.RecordHeaderSize
}

func wantDamage(t *testing.T, what string, err error, file string, off int64) {
	t.Helper()
	damage, ok := errors.AsType[*journal.DamageError](err)
	if !ok || !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("%s: got %v, want damage", what, err)
	}
	if damage.File != file || damage.Offset != off || damage.What == "" {
		t.Fatalf("%s: got %v; want it to name %s at %d", what, err, file, off)
	}
}

// setFormat makes a segment one of another format, with a checksum that is right.
func setFormat(b []byte, format uint32) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[8:], format)
	binary.LittleEndian.PutUint32(b[4092:], crc32.Checksum(b[:4092], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// setField changes a field of a segment's header, whose checksum is right nevertheless.
func setField(b []byte, off int) []byte {
	b = bytes.Clone(b)
	b[off]++
	return setFormat(b, 1)
}

// TestBadFiles: files that are not what they should be are told from a torn end, named, and left as they are.
func TestBadFiles(t *testing.T) {
	const first, second, third = "0000000000000000", "0000000000002000", "0000000000004000"
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	groups, _, _ := small(t, o)
	pristine := files(t, o.Dir)
	other := o
	other.Dir = newDir(t)
	small(t, other)
	foreign := files(t, other.Dir)
	spare := setFormat(pristine[second], 1)
	binary.LittleEndian.PutUint64(spare[24:], 0x4000)
	binary.LittleEndian.PutUint64(spare[56:], binary.LittleEndian.Uint64(spare[48:]))
	spare = setFormat(spare[:4096], 1)
	damagedSpare := bytes.Clone(spare)
	damagedSpare[100]++
	withRecord := func(b []byte) []byte {
		record := bytes.Clone(pristine[second][4096:5000])
		binary.LittleEndian.PutUint64(record[8:], 0x4000+5000)
		return append(append(bytes.Clone(b), make([]byte, 5000-len(b))...), record...)
	}

	tests := []struct {
		name    string
		files   map[string][]byte // over the pristine ones; nil: removed
		want    error             // nil: the groups are all there
		naming  string            // in the text
		dropped int               // groups at the end that are
	}{
		{"newest of a newer format", map[string][]byte{second: setFormat(pristine[second], 2)}, journal.ErrVersion, second, 0},
		{"oldest of a newer format", map[string][]byte{first: setFormat(pristine[first], 2)}, journal.ErrVersion, first, 0},
		{"format 0", map[string][]byte{second: setFormat(pristine[second], 0)}, journal.ErrCorrupt, second, 0},
		{"the next is of another log", map[string][]byte{second: foreign[second]}, journal.ErrCorrupt, second, 0},
		{"the first is of another log", map[string][]byte{first: foreign[first]}, journal.ErrCorrupt, second, 0},
		{"the second says that it is of another log", map[string][]byte{second: setField(pristine[second], 16)}, journal.ErrCorrupt, second, 0},
		{"the second says that it follows another", map[string][]byte{second: setField(pristine[second], 56)}, journal.ErrCorrupt, second, 0},
		{"both are exchanged", map[string][]byte{first: pristine[second], second: pristine[first]}, journal.ErrCorrupt, first, 0},
		{"one is twice", map[string][]byte{third: pristine[second]}, journal.ErrCorrupt, third, 0},
		{"one behind the end is of another log", map[string][]byte{third: foreign[first]}, journal.ErrCorrupt, third, 0},
		{"one behind the end is of a newer format", map[string][]byte{third: setFormat(spare, 7)}, journal.ErrVersion, third, 0},
		{"one behind the end is no segment", map[string][]byte{third: []byte("somebody else's file")}, journal.ErrCorrupt, third, 0},
		{"one behind the end follows another", map[string][]byte{third: setFormat(append(bytes.Clone(spare[:56]), make([]byte, 4096-56)...), 1)}, journal.ErrCorrupt, third, 0},
		{"one made ahead", map[string][]byte{third: spare}, nil, "", 0},
		{"one made ahead, with zeros", map[string][]byte{third: append(bytes.Clone(spare), make([]byte, 4096)...)}, nil, "", 0},
		{"one made ahead, damaged", map[string][]byte{third: damagedSpare}, nil, "", 0},
		{"one made ahead, empty", map[string][]byte{third: {}}, nil, "", 0},
		{"one with records, header damaged", map[string][]byte{third: withRecord(damagedSpare)}, journal.ErrCorrupt, third, 0},
		{"one with records, header zeros", map[string][]byte{third: withRecord(nil)}, journal.ErrCorrupt, third, 0},
		{"the first is missing", map[string][]byte{first: nil}, journal.ErrRemoved, "", 0},
		{"the second is missing", map[string][]byte{second: nil}, journal.ErrMissing, second, 0},
		{"the first is cut off", map[string][]byte{first: pristine[first][:5000]}, journal.ErrCorrupt, first, 0},
		{"the first is empty", map[string][]byte{first: {}}, journal.ErrCorrupt, first, 0},
		{"the last group is cut off", map[string][]byte{second: pristine[second][:len(pristine[second])-1]}, nil, "", 1},
		{"zeros behind the end", map[string][]byte{second: append(bytes.Clone(pristine[second]), make([]byte, 400)...)}, nil, "", 0},
		{"garbage behind the end", map[string][]byte{second: append(bytes.Clone(pristine[second]), content(1, 400)...)}, nil, "", 0},
		{"files of others", map[string][]byte{"README": []byte("hello"), "00000000000020001": []byte("x"), "000000000000200A": []byte("x")}, nil, "", 0},
		{"a segment that was being made", map[string][]byte{third + ".new": []byte("x"), "x.new": []byte("x")}, nil, "", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for name := range files(t, o.Dir) {
				if err := os.Remove(filepath.Join(o.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for _, all := range []map[string][]byte{pristine, test.files} {
				for name, content := range all {
					if content == nil {
						if err := os.Remove(filepath.Join(o.Dir, name)); err != nil {
							t.Fatal(err)
						}
						continue
					}
					write(t, o.Dir, name, content)
				}
			}
			before := files(t, o.Dir)
			l, got, err := replay(o, 0)
			if test.want != nil {
				if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.naming) || strings.Contains(err.Error(), o.Dir) {
					t.Errorf("got %v, want %v, naming %s", err, test.want, test.naming)
				}
				if errors.Is(err, journal.ErrVersion) && errors.Is(err, journal.ErrCorrupt) {
					t.Errorf("%v: a newer version is no damage", err)
				}
				if after := files(t, o.Dir); !maps.EqualFunc(before, after, bytes.Equal) {
					t.Errorf("files were changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := groups[:len(groups)-test.dropped]
			wantGroups(t, got, want)
			want = append(slices.Clone(want), mustAdd(t, l, makeGroup(1)), mustAdd(t, l, makeGroup(2)))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			mustReplay(t, o, 0, want)
			after := files(t, o.Dir)
			for name, content := range before {
				if _, mine := map[string]bool{first: true, second: true, third: true, third + ".new": true}[name]; !mine && !bytes.Equal(after[name], content) {
					t.Errorf("%s, which is not ours, was changed", name)
				}
			}
			if _, ok := after[third+".new"]; ok {
				t.Error("what was being made is still there")
			}
		})
	}
}

// TestUnreadable: what cannot be read is no end of the log, wherever it is.
func TestUnreadable(t *testing.T) {
	f := vfstest.NewFailing(quick())
	o := options(newDir(t), f)
	o.SegmentSize = 8 << 10
	groups, starts, _ := small(t, o)
	for name, whole := range files(t, o.Dir) {
		path := filepath.Join(o.Dir, name)
		for off := int64(0); off < int64(len(whole)); off += 37 {
			f.Reset()
			f.FailRead(path, off, 1, syscall.EIO)
			_, got, err := replay(o, 0)
			damage, ok := errors.AsType[*journal.DamageError](err)
			if !ok || damage.File != name || !errors.Is(err, syscall.EIO) || strings.Contains(err.Error(), o.Dir) {
				t.Fatalf("%s at %d: got %v, want damage by EIO", name, off, err)
			}
			for i, g := range got {
				if i >= len(groups) || g.at != groups[i].at {
					t.Fatalf("%s at %d: group at %d was delivered", name, off, g.at)
				}
			}
		}
	}
	f.Reset()
	l := mustReplay(t, o, 0, groups)
	groups = append(groups, mustAdd(t, l, makeGroup(1)))
	l.Idle()
	l.Abandon()
	name := fmt.Sprintf("%016x", 0x2000)
	f.FailRead(filepath.Join(o.Dir, name), int64(len(files(t, o.Dir)[name]))-1, 1, syscall.EIO)
	if _, _, err := replay(o, 0); !errors.Is(err, journal.ErrCorrupt) || !errors.Is(err, syscall.EIO) {
		t.Errorf("what was set aside cannot be read: got %v, want damage by EIO", err)
	}
	f.Reset()
	l = mustReplay(t, o, 0, groups)
	if d := l.Dropped(); d != nil {
		t.Errorf("zeros were taken for a torn group: %v", d)
	}
	f.FailRead(filepath.Join(o.Dir, fmt.Sprintf("%016x", 0)), 4096, 4096, syscall.EIO)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, _, err := replay(o, starts[len(starts)-1]); err == nil {
		l.Close()
		t.Error("a replay from within a group")
	}
	mustReplay(t, o, groups[len(groups)-1].at, groups[len(groups)-1:]) // which needs nothing of the first segment
}

// TestReadDamaged: no byte of a payload is returned that is not what was appended.
func TestReadDamaged(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 1 << 20
	l := newLog(t, o)
	payload := content(1, 150_000)
	_, places, err := add(l, []record{{kind: journal.KindRows, payloads: [][]byte{payload}}})
	if err != nil {
		t.Fatal(err)
	}
	at := places[0]
	name := filepath.Join(o.Dir, fmt.Sprintf("%016x", 0))
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	flip := func(off int64) {
		t.Helper()
		b := make([]byte, 1)
		if _, err := file.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 4
		if _, err := file.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		off   int64 // from the payload's start
		block int   // that is damaged; -1: all
	}{{-16, -1}, {-12, 0}, {-8, 1}, {-1, 2}, {0, 0}, {65_535, 0}, {65_536, 1}, {131_072, 2}, {149_999, 2}} {
		flip(int64(at) + test.off)
		if _, err := l.ReadPayload(at, 150_000, nil); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("byte %d: got %v, want damage", test.off, err)
		}
		p, err := l.OpenPayload(at, 150_000)
		if (err != nil) != (test.block < 0) {
			t.Errorf("byte %d: open: %v", test.off, err)
		}
		for block := range 3 {
			if err != nil {
				break
			}
			b := make([]byte, 10)
			n, err := p.ReadAt(b, int64(block)*65_536+100)
			if block == test.block != errors.Is(err, journal.ErrCorrupt) || err != nil && n > 0 {
				t.Errorf("byte %d, block %d: got %d, %v", test.off, block, n, err)
			}
		}
		if err == nil {
			b := make([]byte, 150_000)
			if n, err := p.ReadAt(b, 0); n != test.block*65_536 || !errors.Is(err, journal.ErrCorrupt) || !bytes.Equal(b[:n], payload[:n]) {
				t.Errorf("byte %d: got %d bytes, %v; want those before the block", test.off, n, err)
			}
			p.Close()
		}
		flip(int64(at) + test.off)
	}
	if got, err := l.ReadPayload(at, 150_000, nil); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("in the end: %v", err)
	}
}

// TestExchangedSegment: a segment of another log is not read in place of one that lies before the replay, though all in it is whole.
func TestExchangedSegment(t *testing.T) {
	var o journal.Options
	var at journal.Position
	var made map[string][]byte
	for i := range uint64(2) {
		o = options(newDir(t), quick())
		l := newLog(t, o)
		_, places, err := add(l, []record{{journal.KindRows, nil, [][]byte{content(i, 7000)}}})
		if err != nil {
			t.Fatal(err)
		}
		second := mustAdd(t, l, []record{{journal.KindRows, nil, [][]byte{content(i, 7000)}}})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			at, made = places[0], files(t, o.Dir)
			continue
		}
		l = mustReplay(t, o, smallSegment, []group{second})
		if _, err := l.ReadPayload(at, 7000, nil); err != nil {
			t.Errorf("as it was: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, o.Dir, "0000000000000000", made["0000000000000000"])
		l = mustReplay(t, o, smallSegment, []group{second})
		if _, err := l.ReadPayload(at, 7000, nil); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("of another log: got %v, want damage", err)
		}
	}
}

// TestMixedGroup: records of two groups that were written to the same place do not make a third.
func TestMixedGroup(t *testing.T) {
	var made [2][]byte
	var o journal.Options
	for i := range made {
		o = options(newDir(t), quick())
		o.Rand = new(counter)
		l := newLog(t, o)
		mustAdd(t, l, []record{{journal.KindRows, content(uint64(i), 500), nil}, {journal.KindRows, content(uint64(i)+10, 500), nil}})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		made[i] = files(t, o.Dir)["0000000000000000"]
	}
	half := 4096 + 68 + 500
	write(t, o.Dir, "0000000000000000", append(bytes.Clone(made[0][:half]), made[1][half:]...))
	mustReplay(t, o, 0, nil)
}

// TestScan: each record that verifies is found, wherever one is damaged.
func TestScan(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	groups, starts, end := small(t, o)
	pristine := files(t, o.Dir)
	scan := func(l *journal.Log) (bodies []string, payloads int, damage []*journal.DamageError) {
		t.Helper()
		for _, s := range l.Segments() {
			err := l.Scan(context.Background(), s.First, func(r journal.Replayed, err error) error {
				if err != nil {
					d, _ := errors.AsType[*journal.DamageError](err)
					damage = append(damage, d)
					return nil
				}
				if len(r.Body) > 0 {
					bodies = append(bodies, string(r.Body))
				}
				payloads += len(r.Payloads)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return bodies, payloads, damage
	}
	l := mustReplay(t, o, 0, groups)
	all, payloads, damage := scan(l)
	if len(all) != 7 || payloads != 9 || len(damage) > 0 {
		t.Fatalf("got %d bodies, %d payloads, damage %v", len(all), payloads, damage)
	}
	for i, at := range starts {
		next := end
		if i+1 < len(starts) {
			next = starts[i+1]
		}
		name, first := "0000000000000000", journal.Position(0)
		if at >= 0x2000 {
			name, first = "0000000000002000", 0x2000
		}
		for off := at; off < min(next, first+0x2000) && off < at+400; off += 31 {
			damaged := bytes.Clone(pristine[name])
			damaged[off-first] ^= 1
			write(t, o.Dir, name, damaged)
			bodies, found, damage := scan(l)
			if off >= unusedFrom(starts) && off < 0x2000 {
				break
			}
			if len(damage) != 1 || damage[0].File != name || damage[0].Offset != int64(at-first) || len(bodies) < len(all)-1 || found > payloads {
				t.Fatalf("byte %d of the record at %d: got %d bodies, %d payloads, damage %v", off-at, at, len(bodies), found, damage)
			}
		}
		write(t, o.Dir, name, pristine[name])
	}
	mustAdd(t, l, makeGroup(1))
	l.Idle()
	l.Abandon()
	unknown, err := journal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer unknown.Close()
	if bodies, _, damage := scan(unknown); len(bodies) <= len(all) || len(damage) > 0 {
		t.Errorf("before a replay: got %d bodies, damage %v; want one group more than %d", len(bodies), damage, len(all))
	}
	l = unknown
	stop := errors.New("stop")
	if err := l.Scan(context.Background(), 0, func(journal.Replayed, error) error { return stop }); err != stop {
		t.Errorf("got %v, want the error of the function", err)
	}
	if err := l.Scan(context.Background(), 1<<40, nil); !errors.Is(err, journal.ErrRemoved) {
		t.Errorf("scan of what is not there: got %v", err)
	}
}
