package compact_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// counted counts what a gathering opens.
type counted struct {
	*repo.Access
	opened []string
}

func (c *counted) OpenRange(ctx context.Context, key string) (*repo.Object, error) {
	c.opened = append(c.opened, key)
	return c.Access.OpenRange(ctx, key)
}

func gather(t *testing.T, from compact.ItemReader, ranges ...compact.Range) *compact.Gathering {
	t.Helper()
	g, err := compact.Gather(context.Background(), from, ranges)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func TestGather(t *testing.T) {
	p := newFixture(t, nil)
	p.put("a", []byte("0123456789"))
	p.put("b", []byte("abcdef"))
	p.put("empty", nil)
	from := &counted{Access: p.a}
	ranges := []compact.Range{
		{Key: "a", Offset: 2, Length: 3}, {Key: "a", Offset: 0, Length: 1}, {Key: "empty"}, {Key: "a", Offset: -2, Length: 2},
		{Key: "b", Offset: 5, Length: 1}, {Key: "b", Offset: 99}, {Key: "b", Offset: -6, Length: 6}, {Key: "a", Offset: 10, Length: 0}, {Key: "a", Offset: 9, Length: 1},
	}
	want := "234" + "0" + "89" + "f" + "abcdef" + "9"
	g := gather(t, from, ranges...)
	if g.Size() != int64(len(want)) {
		t.Errorf("size: got %d, want %d", g.Size(), len(want))
	}
	if len(from.opened) > 0 {
		t.Errorf("%q were opened before anything was read", from.opened)
	}
	if err := iotest.TestReader(g, []byte(want)); err != nil {
		t.Error(err)
	}
	if got := strings.Join(from.opened, " "); got != "a b a" {
		t.Errorf("opened %s, want one at a time, each once for the ranges that follow one another", got)
	}
}

// A buffer is filled across ranges: they may be small, and what Read returns is sent at once.
func TestGatherFillsBuffers(t *testing.T) {
	p := newFixture(t, nil)
	body := bytes.Repeat([]byte("0123456789"), 1000)
	p.put("a", body)
	var ranges []compact.Range
	var want []byte
	for i := range 200 {
		ranges = append(ranges, compact.Range{Key: "a", Offset: int64(i * 49), Length: 7})
		want = append(want, body[i*49:i*49+7]...)
	}
	g := gather(t, p.a, ranges...)
	buffer := make([]byte, 1000)
	n, err := g.Read(buffer)
	if n != len(buffer) || err != nil || !bytes.Equal(buffer, want[:n]) {
		t.Errorf("first read: got %d bytes, %v, want a full buffer", n, err)
	}
	rest, err := io.ReadAll(g)
	if err != nil || !bytes.Equal(rest, want[n:]) {
		t.Errorf("the rest: got %d bytes, %v, want %d", len(rest), err, len(want)-n)
	}
}

func TestGatherOfNothing(t *testing.T) {
	p := newFixture(t, nil)
	g := gather(t, p.a)
	if n, err := g.Read(make([]byte, 1)); g.Size() != 0 || n != 0 || err != io.EOF {
		t.Errorf("got size %d, then %d bytes, %v", g.Size(), n, err)
	}
}

// All ranges are checked before one is read: the permissions of all of them first.
func TestGatherChecks(t *testing.T) {
	p := newFixture(t, nil)
	p.put("a", []byte("0123456789"))
	p.put("secret/s", []byte("s"))
	p.put("dir/x", []byte("x"))
	permissions, err := policy.Parse(`{"": "lr", "secret": "l"}`)
	if err != nil {
		t.Fatal(err)
	}
	reader := p.repo.As(repo.Principal{Name: "reader", Permissions: permissions})
	good := compact.Range{Key: "a", Offset: 0, Length: 10}
	for name, test := range map[string]struct {
		ranges []compact.Range
		want   compact.PlanError
	}{
		"denied, behind what is missing": {[]compact.Range{{Key: "none"}, {Key: "secret/s", Length: 1}},
			compact.PlanError{Range: 1, Key: "secret/s", Want: 1, Err: repo.ErrDenied}},
		"missing":                     {[]compact.Range{good, {Key: "none", Length: 1}}, compact.PlanError{Range: 1, Key: "none", Want: 1, Err: repo.ErrNotFound}},
		"no bytes of what is missing": {[]compact.Range{{Key: "none"}}, compact.PlanError{Key: "none", Err: repo.ErrNotFound}},
		"below an item":               {[]compact.Range{{Key: "a/x", Length: 1}}, compact.PlanError{Key: "a/x", Want: 1, Err: repo.ErrNotFound}},
		"directory":                   {[]compact.Range{{Key: "dir", Length: 1}}, compact.PlanError{Key: "dir", Want: 1, Err: repo.ErrIsDir}},
		"beyond the end": {[]compact.Range{good, {Key: "a", Offset: 8, Length: 3}},
			compact.PlanError{Range: 1, Key: "a", Offset: 8, Want: 3, Got: 2, Err: repo.ErrRange}},
		"begins beyond the end": {[]compact.Range{{Key: "a", Offset: 11, Length: 1}}, compact.PlanError{Key: "a", Offset: 11, Want: 1, Err: repo.ErrRange}},
		"before the start": {[]compact.Range{{Key: "a", Offset: -12, Length: 2}},
			compact.PlanError{Key: "a", Offset: -2, Want: 2, Got: 10, Err: repo.ErrRange}},
		"overflow": {[]compact.Range{{Key: "a", Offset: 1, Length: math.MaxInt64}}, compact.PlanError{Key: "a", Offset: 1, Want: math.MaxInt64, Got: 9, Err: repo.ErrRange}},
	} {
		from := &counted{Access: reader}
		_, err := compact.Gather(context.Background(), from, test.ranges)
		got, ok := errors.AsType[*compact.PlanError](err)
		if !ok || !errors.Is(got.Err, test.want.Err) {
			t.Errorf("%s: got %v, want %v", name, err, &test.want)
			continue
		}
		if test.want.Err = got.Err; *got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, *got, test.want)
		}
		if len(from.opened) > 0 {
			t.Errorf("%s: %q were opened", name, from.opened)
		}
	}
}

// What was replaced or deleted since it was checked is not read, and nothing in its place, however often the reader asks.
func TestGatherReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*fixture)
		want   error
	}{
		"replaced": {func(p *fixture) { p.put("b", []byte("new")) }, repo.ErrConflict},
		"deleted":  {func(p *fixture) { p.delete("b") }, repo.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFixture(t, nil)
			p.put("a", []byte("aaaa"))
			p.put("b", []byte("old"))
			g := gather(t, p.a, compact.Range{Key: "a", Length: 4}, compact.Range{Key: "b", Length: 1}, compact.Range{Key: "b", Length: 3}, compact.Range{Key: "a", Length: 1})
			test.change(p)
			for range 3 {
				body, err := io.ReadAll(g)
				if !errors.Is(err, test.want) || strings.Trim(string(body), "a") != "" || len(body) > 4 {
					t.Errorf("got %q, %v, want %v before a byte of it", body, err, test.want)
				}
			}
		})
	}
}

// An item that is open is read to its end, whatever becomes of its key.
func TestGatherKeepsWhatIsOpen(t *testing.T) {
	p := newFixture(t, nil)
	p.put("a", []byte("0123456789"))
	g := gather(t, p.a, compact.Range{Key: "a", Length: 5}, compact.Range{Key: "a", Offset: 5, Length: 5})
	first := make([]byte, 1)
	if _, err := io.ReadFull(g, first); err != nil {
		t.Fatal(err)
	}
	p.put("a", []byte("other"))
	rest, err := io.ReadAll(g)
	if got := string(first) + string(rest); err != nil || got != "0123456789" {
		t.Errorf("got %q, %v", got, err)
	}
}

// huge has one item, of as many bytes as a size can say.
type huge struct{ *repo.Access }

func (huge) Row(_ context.Context, key string) (index.Entry, error) {
	return index.Entry{Key: key, Item: index.Item{Size: math.MaxInt64}}, nil
}

func TestGatherOfTooMuch(t *testing.T) {
	p := newFixture(t, nil)
	half := compact.Range{Key: "a", Length: math.MaxInt64/2 + 1}
	if _, err := compact.Gather(context.Background(), huge{p.a}, []compact.Range{half}); err != nil {
		t.Errorf("half of what a size can say: %v", err)
	}
	_, err := compact.Gather(context.Background(), huge{p.a}, []compact.Range{half, half})
	if wrong, ok := errors.AsType[*compact.PlanError](err); !ok || wrong.Range != 1 || !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("twice that: got %v, want the second range to be too large", err)
	}
}
