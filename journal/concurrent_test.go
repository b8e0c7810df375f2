package journal_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"packhouse/journal"
)

// TestConcurrentUse: readers read what is durable while groups are appended, from several goroutines and begun ahead, and
// old segments go.
func TestConcurrentUse(t *testing.T) {
	o := options(newDir(t), quick())
	l := newLog(t, o)
	type kept struct {
		at   journal.Position
		seed uint64
		size int
	}
	var mu sync.Mutex
	var all []kept
	const readers, enough = 4, 20
	var busy atomic.Int64 // readers that have not read enough
	busy.Store(readers)
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range uint64(3) {
		writing.Go(func() {
			for i := uint64(0); i < 150 || busy.Load() > 0; i++ {
				seed := w*1_000_000 + i
				size := int(seed * 37 % 9000)
				appended, err := l.AppendRecords(context.Background(), []journal.Record{{Kind: journal.KindRows, Payloads: [][]byte{content(seed, size)}}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, kept{appended.Payloads[0], seed, size})
				mu.Unlock()
				if i%40 == 39 {
					if err := l.Remove(appended.Position - 200_000); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for r := range uint64(readers) {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(r, 6))
			var buffer []byte
			read := 0
			defer func() {
				if read < enough {
					busy.Add(-1)
				}
			}()
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				if len(all) == 0 {
					mu.Unlock()
					continue
				}
				k := all[random.IntN(len(all))]
				mu.Unlock()
				want := content(k.seed, k.size)
				got, err := l.ReadPayload(k.at, int64(k.size), buffer)
				if err == nil && random.IntN(2) == 0 {
					var p *journal.PayloadReader
					if p, err = l.OpenPayload(k.at, int64(k.size)); err == nil {
						got = make([]byte, k.size)
						_, err = p.ReadAt(got, 0)
						p.Close()
					}
				}
				if err == nil {
					if read++; read == enough {
						busy.Add(-1)
					}
				} else if errors.Is(err, journal.ErrRemoved) {
					continue
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("payload of %d bytes at %d: %v", k.size, k.at, err)
					return
				}
				buffer = got[:0]
				l.Segments()
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	first := l.Segments()[0].First
	n := 0
	again := o
	again.ReadOnly = true
	replayed, groups, err := replay(again, first)
	if err != nil {
		t.Fatal(err)
	}
	replayed.Close()
	for _, k := range all {
		if k.at >= groups[0].at {
			n++
		}
	}
	if len(groups) != n {
		t.Errorf("%d groups are replayed, want %d", len(groups), n)
	}
}

// TestManySegments: more segments are read than are kept open.
func TestManySegments(t *testing.T) {
	o := options(newDir(t), quick())
	o.SegmentSize = 8 << 10
	l := newLog(t, o)
	var places []journal.Position
	for i := range uint64(80) {
		_, at, err := add(l, []record{{kind: journal.KindRows, payloads: [][]byte{content(i, 3000)}}})
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, at[0])
	}
	if got := len(l.Segments()); got != 80 {
		t.Fatalf("got %d segments, want 80", got)
	}
	var open []*journal.PayloadReader
	for range 2 {
		for i, at := range places {
			p, err := l.OpenPayload(at, 3000)
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				open = append(open, p)
			} else {
				p.Close()
			}
		}
	}
	for i, p := range open {
		b := make([]byte, 3000)
		if _, err := p.ReadAt(b, 0); err != nil || !bytes.Equal(b, content(uint64(i%40*2), 3000)) {
			t.Errorf("payload %d: %v", i, err)
		}
		p.Close()
	}
	if n := l.OpenFiles(); n > 32 {
		t.Errorf("%d segments are open that nobody reads", n)
	}
}
