package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"packhouse/internal/sampling"
	"packhouse/journal"
)

// salvaged is a group as Salvage gave it.
type salvaged struct {
	at      journal.Position
	bodies  []string
	follows bool
	epoch   uint64
}

// salvage reads what there is of a log.
func salvage(t testing.TB, o journal.Options, from journal.Position, identity uint64) (all []salvaged, report journal.Salvaged) {
	t.Helper()
	o.ReadOnly = true
	l, err := journal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	whole := true
	report, err = l.Salvage(context.Background(), from, identity, func(r journal.Replayed, follows bool) error {
		if whole {
			all = append(all, salvaged{at: r.Group, follows: follows, epoch: r.Epoch})
		}
		g := &all[len(all)-1]
		if g.at != r.Group || g.follows != follows {
			t.Errorf("record of the group at %d in that at %d", r.Group, g.at)
		}
		g.bodies = append(g.bodies, string(r.Body))
		whole = r.Last
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Groups != int64(len(all)) {
		t.Errorf("%d groups, %d in the report", len(all), report.Groups)
	}
	return all, report
}

// wantSalvaged compares groups with those that were appended, but for the one of an index (negative: all are there).
func wantSalvaged(t testing.TB, what string, got []salvaged, want []group, but int) {
	t.Helper()
	i := 0
	for n, g := range want {
		if n == but {
			continue
		}
		if i == len(got) {
			t.Errorf("%s: %d groups, want more", what, len(got))
			return
		}
		s := got[i]
		i++
		if follows := but < 0 || n < but; s.at != g.at || s.follows != follows || len(s.bodies) != len(g.records) {
			t.Errorf("%s: group %d: got %+v, want that at %d, follows %v", what, n, s, g.at, follows)
			continue
		}
		for j, r := range g.records {
			if s.bodies[j] != string(r.body) {
				t.Errorf("%s: record %d of group %d has another body", what, j, n)
			}
		}
	}
	if i != len(got) {
		t.Errorf("%s: %d groups, want %d", what, len(got), i)
	}
}

func identityOf(t testing.TB, o journal.Options) uint64 {
	t.Helper()
	l, _, err := replay(o, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Identity()
}

// TestSalvageEveryByte damages each byte of a log: all groups but that one are found, also if it is the first or lies in two segments; all of them if the
// byte is of a payload.
func TestSalvageEveryByte(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	groups, _, end := small(t, o)
	identity := identityOf(t, o)
	pristine := files(t, o.Dir)
	counts := make(map[string]int)
	share := sampling.NewShare(t, 3)
	for _, name := range slices.Sorted(maps.Keys(pristine)) {
		whole := pristine[name]
		var first journal.Position
		fmt.Sscanf(name, "%x", &first)
		for off := 4096; off < len(whole); off++ {
			at := first + journal.Position(off)
			if at >= end || !share.Takes() {
				continue
			}
			hit := 0
			for hit+1 < len(groups) && groups[hit+1].at <= at {
				hit++
			}
			damaged := bytes.Clone(whole)
			damaged[off] ^= 1 << (off % 8)
			write(t, o.Dir, name, damaged)
			got, report := salvage(t, o, 0, identity)
			place := fmt.Sprintf("%s, byte %d, of group %d", name, off, hit)
			switch last := hit == len(groups)-1; {
			case len(got) == len(groups): // of a payload
				counts["payload"]++
				wantSalvaged(t, place, got, groups, -1)
				if report.Damaged != 0 || !report.Follows {
					t.Errorf("%s: got %+v", place, report)
				}
			case last:
				counts["last"]++
				wantSalvaged(t, place, got, groups[:hit], -1)
				if report.Damaged != 0 || !report.Follows {
					t.Errorf("%s: got %+v, want a torn tail", place, report)
				}
			default:
				counts["middle"]++
				wantSalvaged(t, place, got, groups, hit)
				if report.Damaged != 1 || report.Follows || !slices.Equal(report.Segments, []string{name}) {
					t.Errorf("%s: got %+v, want damage in %s", place, report, name)
				}
			}
		}
		write(t, o.Dir, name, whole)
	}
	if counts["payload"] < 300 || counts["last"] < 50 || counts["middle"] < 100 {
		t.Errorf("cases: %v", counts)
	}
}

// TestSalvageFrom: what begins before the position is left out, and what follows is known by the position and the identity.
func TestSalvageFrom(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	groups, _, end := small(t, o)
	identity := identityOf(t, o)
	for i, g := range groups {
		got, report := salvage(t, o, g.at, identity)
		wantSalvaged(t, fmt.Sprintf("from group %d", i), got, groups[i:], -1)
		if !report.Follows || report.Damaged != 0 {
			t.Errorf("from group %d: got %+v", i, report)
		}
		if _, report := salvage(t, o, g.at, identity+2); report.Follows || report.Groups != int64(len(groups)-i) {
			t.Errorf("of another log: got %+v", report)
		}
		if i == len(groups)-1 {
			continue // what is left of it could be a torn tail
		}
		if got, report := salvage(t, o, g.at+1, identity); report.Follows || len(got) != len(groups)-i-1 {
			t.Errorf("from the midst of group %d: got %d, %+v", i, len(got), report)
		}
	}
	if got, report := salvage(t, o, end, identity); len(got) != 0 || !report.Follows {
		t.Errorf("from the end: got %d, %+v; want none, and nothing missing", len(got), report)
	}
	if got, report := salvage(t, o, end+1, identity); len(got) != 0 || report.Follows {
		t.Errorf("from behind the end: got %d, %+v", len(got), report)
	}
}

// TestSalvageWithoutSegments: segments that are removed, or whose headers are lost, cost their groups alone; and behind one that was made by Extend
// all is found.
func TestSalvageWithoutSegments(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	var groups []group
	for i := range 12 {
		groups = append(groups, mustAdd(t, l, []record{{journal.KindRows, content(uint64(i), 3000), nil}}))
	}
	identity := l.Identity()
	segments := l.Segments()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(segments) < 3 {
		t.Fatalf("got %d segments, want 3", len(segments))
	}
	middle := segments[1]
	in := func(s journal.Segment, at journal.Position) bool { return at >= s.First && at < s.End }
	name := filepath.Join(o.Dir, fmt.Sprintf("%016x", uint64(middle.First)))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, damaged := range map[string]func() error{
		"removed":     func() error { return os.Remove(name) },
		"header lost": func() error { return os.WriteFile(name, append(make([]byte, 4096), whole[4096:]...), 0o600) },
	} {
		if err := damaged(); err != nil {
			t.Fatal(err)
		}
		got, report := salvage(t, o, 0, identity)
		if report.Follows || (report.Damaged == 1) != (what == "header lost") {
			t.Errorf("%s: got %+v", what, report)
		}
		for _, g := range groups {
			i := slices.IndexFunc(got, func(s salvaged) bool { return s.at == g.at })
			switch {
			case i >= 0 && got[i].follows != (g.at < middle.First):
				t.Errorf("%s: group at %d follows: %v", what, g.at, got[i].follows)
			case i < 0 && g.at >= middle.End, i < 0 && g.at < middle.First-8000:
				t.Errorf("%s: the group at %d is not found", what, g.at)
			case i >= 0 && in(middle, g.at) && g.at < middle.End-3300: // of one further behind the records may lie in the next

				t.Errorf("%s: the group at %d is found", what, g.at)
			}
		}
		if err := os.WriteFile(name, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A log that goes on elsewhere is whole, but what lies behind does not follow: something else happened in between.
	at, err := journal.Extend(o)
	if err != nil {
		t.Fatal(err)
	}
	if l, _, err = replay(o, at); err != nil {
		t.Fatal(err)
	}
	late := mustAdd(t, l, []record{{journal.KindRows, []byte("late"), nil}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, report := salvage(t, o, 0, identity)
	if report.Damaged != 0 || report.Follows || len(got) != len(groups)+1 || got[len(groups)].at != late.at || got[len(groups)].follows || !got[len(groups)-1].follows {
		t.Errorf("extended: got %d, %+v", len(got), report)
	}
	if before, behind := got[len(groups)-1].epoch, got[len(groups)].epoch; before != epoch || behind != epoch+1 {
		t.Errorf("extended: epoch %d, then %d, want %d and %d", before, behind, epoch, epoch+1)
	}
}

// TestSalvageChangesNothing: a log that can be appended to is not salvaged.
func TestSalvageChangesNothing(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	defer l.Close()
	if _, err := l.Salvage(context.Background(), 0, 0, nil); err == nil {
		t.Error("a log that is open for writing was salvaged")
	}
	mustAdd(t, l, []record{{journal.KindRows, []byte("one"), nil}})
	o.ReadOnly = true
	r, err := journal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stop := errors.New("stop")
	if _, err := r.Salvage(context.Background(), 0, 0, func(journal.Replayed, bool) error { return stop }); err != stop {
		t.Errorf("got %v, want the error of fn", err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Salvage(canceled, 0, 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
