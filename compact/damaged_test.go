package compact_test

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"packhouse/compact"
	"packhouse/repo"
)

// TestSoundRangesOfDamagedSource: of an item that is known to be damaged, a plan and a gathering read the ranges that touch no wrong
// block. A plan that touches one fails, as a dry run does, and changes nothing.
func TestSoundRangesOfDamagedSource(t *testing.T) {
	const size, wrong = 500 << 10, 200 << 10 // the block from 192 to 256 KiB
	p := newFixture(t, nil)
	body := noise(1, size)
	p.put("a", body)
	p.spoil(func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{body[wrong] ^ 1}, wrong)
		return err
	})
	if _, err := p.get("a"); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("the item: got %v, want ErrDamaged", err)
	}
	sound := []compact.Range{{Key: "a", Offset: 10, Length: 190 << 10}, {Key: "a", Offset: -(200 << 10), Length: 200 << 10}}
	for _, bad := range []compact.Range{
		{Key: "a", Offset: wrong, Length: 1}, {Key: "a", Offset: 193 << 10, Length: 10}, {Key: "a", Offset: 0, Length: size}, {Key: "a", Offset: 100, Length: 300 << 10},
	} {
		op := compact.Operation{Ranges: append(sound[:1:1], bad), Target: "b", Deletes: []string{"a"}}
		_, err := p.run(op)
		var at *compact.PlanError
		if !errors.Is(err, repo.ErrDamaged) || !errors.As(err, &at) || at.Key != "a" || at.Range != 1 {
			t.Errorf("plan with %+v: got %v (%+v), want ErrDamaged of the second range", bad, err, at)
		}
		if _, err := compact.Gather(context.Background(), p.a, append(sound[:1:1], bad)); !errors.Is(err, repo.ErrDamaged) {
			t.Errorf("gather with %+v: got %v, want ErrDamaged", bad, err)
		}
		p.wantKeys("a")
	}
	want := string(body[10:10+190<<10]) + string(body[300<<10:])
	g, err := compact.Gather(context.Background(), p.a, append([]compact.Range(nil), sound...))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if got, err := io.ReadAll(g); err != nil || string(got) != want {
		t.Errorf("gather: got %d bytes, %v; want %d", len(got), err, len(want))
	}
	p.mustRun(compact.Operation{Ranges: sound, Target: "b", Deletes: []string{"a"}})
	p.want("b", want)
	p.wantKeys("b")
}
