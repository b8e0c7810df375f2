//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crashProtocol is what a protocol's clients do in a crash test.
type crashProtocol interface {
	// step sends one request and returns the items it changes, with their values (nil: none).
	step(w *crashWorker) (change map[string][]byte, err error)
	// found reads everything the worker's part of the server holds.
	found(w *crashWorker) (map[string][]byte, error)
	// usage is how many bytes the server counts in the worker's repository.
	usage(w *crashWorker) (int64, error)
	// left is how many blobs the server has, when found has returned, beside those of the worker's items.
	left() int
}

// victim is a process that has the repositories open.
type victim interface {
	launch(files ...*os.File) // begins to start it
	start()                   // returns when it can be asked
	kill()                    // ends it as a crash does
	stop()                    // ends it as an administrator does
}

// crash kills the server of a data directory again and again while the workers send requests, starts it again, and
// compares what it has with what it acknowledged: everything must be there, whole; a request that was under way
// may have happened or not, but not in part; usage is the sum of what is there, and every other counter that
// of the items; and no file is left that belongs to nothing.
func crash(t *testing.T, s victim, data string, workers []*crashWorker, random *rand.Rand) {
	t.Helper()
	acknowledged := 0
	for round := range *crashRounds {
		var stop atomic.Bool
		var group sync.WaitGroup
		for _, w := range workers {
			group.Go(func() { w.work(&stop) })
		}
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		s.kill()
		stop.Store(true)
		group.Wait()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		for random.IntN(4) == 0 { // a crash of the start that cleans up after a crash
			s.launch()
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
			s.kill()
		}
		s.start()
		// By repository: its items' count and bytes.
		items, bytes := make(map[string]int), make(map[string]int64)
		for _, w := range workers {
			w.compare()
			acknowledged += w.acknowledged
			w.acknowledged = 0
			items[w.repository] += w.protocol.left()
			for name, value := range w.items {
				if w.counts(name) {
					bytes[w.repository] += int64(len(value))
					items[w.repository]++
				}
			}
		}
		for _, w := range workers {
			if got, err := w.protocol.usage(w); err != nil || got != bytes[w.repository] {
				t.Errorf("usage of %s is %d (%v), want the sum of all items, %d", w.repository, got, err, bytes[w.repository])
			}
			nothingLeaked(t, data, w.repository, items[w.repository])
		}
		run(t, nil, packhouse(), "check", "--data-dir", data) // the counters of each directory, and references
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	run(t, nil, packhouse(), "check", "--data-dir", data, "--verify")
	s.stop()
	run(t, nil, packhouse(), "check", "--data-dir", data, "--verify")
	if acknowledged < *crashRounds {
		t.Errorf("only %d operations were acknowledged in %d rounds, so nothing was tested", acknowledged, *crashRounds)
	}
	t.Logf("%d operations were acknowledged before a crash and found after it", acknowledged)
}

// crashRandom is the source of all that happens by chance in a crash test.
func crashRandom(t *testing.T) (seed uint64, random *rand.Rand) {
	t.Helper()
	seed = uint64(*crashSeed)
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d rounds, -crash.seed=%d", *crashRounds, seed)
	return seed, rand.New(rand.NewPCG(seed, 0))
}

// nothingLeaked waits until the repository has as many blob files and items in the log as it has items, and no upload is left over.
func nothingLeaked(t *testing.T, data, repository string, items int) {
	t.Helper()
	dir := filepath.Join(data, repository)
	var blobs, sums, incoming, inLog int
	for range 600 {
		blobs, sums = files(filepath.Join(dir, "blobs"))
		incoming, _ = files(filepath.Join(dir, "incoming"))
		inLog = itemsInLog(t, data, repository)
		if blobs+inLog == items && incoming == 0 && sums == blobs {
			return
		}
		time.Sleep(50 * time.Millisecond) // what was removed is unlinked in the background
	}
	t.Errorf("%d blob files with %d of checksums and %d items in the log for %d items, and %d unfinished uploads, after half a minute of rest",
		blobs, sums, inLog, items, incoming)
}

// itemsInLog is how many items lie in the log of a repository, as the server says.
func itemsInLog(t *testing.T, data, repository string) int {
	t.Helper()
	var info struct{ Log struct{ Items int } }
	if err := json.Unmarshal([]byte(run(t, nil, packhouse(), "repo", "info", repository, "--json", "--data-dir", data)), &info); err != nil {
		t.Fatal(err)
	}
	return info.Log.Items
}

// files counts the regular files below a directory: those of checksums, and the others.
func files(dir string) (blobs, sums int) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || !entry.Type().IsRegular():
		case filepath.Ext(entry.Name()) == ".sums":
			sums++
		default:
			blobs++
		}
		return nil
	})
	return blobs, sums
}

// crashWorker is one client with items of its own, so that it knows what must be there.
type crashWorker struct {
	t          *testing.T
	protocol   crashProtocol
	repository string
	dir        string // of the items; empty: all of the repository
	random     *rand.Rand
	next       uint64 // number of the next value

	counts func(name string) bool // whether the item counts as one in the repository

	items map[string][]byte // what was acknowledged

	// pending are the items that a request without an answer would change, with the values they would
	// get (nil: none); empty when there is no such request.
	pending      map[string][]byte
	acknowledged int
}

// work sends requests until one is not answered, or stop.
func (w *crashWorker) work(stop *atomic.Bool) {
	for !stop.Load() {
		change, err := w.protocol.step(w)
		var status *statusError
		switch {
		case err == nil:
			w.apply(change)
			w.acknowledged++
		case errors.As(err, &status):
			w.t.Errorf("refused, want success: %v", err)
			return
		default: // no answer: the server is dead
			w.pending = change
			return
		}
	}
}

// apply makes a change part of what must be there.
func (w *crashWorker) apply(change map[string][]byte) {
	for name, value := range change {
		if value == nil {
			delete(w.items, name)
		} else {
			w.items[name] = value
		}
	}
}

// value is a new value: mostly small, sometimes some megabytes.
func (w *crashWorker) value() []byte {
	w.next++
	size := w.random.Int64N(16 << 10)
	switch w.random.IntN(40) {
	case 0:
		size = w.random.Int64N(4 << 20)
	case 1:
		size = 0
	}
	return noise(w.random.Uint64(), size)
}

func (w *crashWorker) names() []string {
	names := make([]string, 0, len(w.items))
	for name := range w.items {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// compare holds what the server has against what it acknowledged, and takes note of what became of the
// request that had no answer.
func (w *crashWorker) compare() {
	w.t.Helper()
	found, err := w.protocol.found(w)
	if err != nil {
		w.t.Errorf("reading %s/%s after a crash: %v", w.repository, w.dir, err)
		return
	}
	before := w.differences(found)
	if len(before) == 0 {
		w.pending = nil
		return
	}
	if w.pending != nil {
		kept := make(map[string][]byte, len(w.items))
		for name, value := range w.items {
			kept[name] = value
		}
		w.apply(w.pending)
		w.pending = nil
		if len(w.differences(found)) == 0 {
			return
		}
		w.items = kept
	}
	for _, difference := range before {
		w.t.Error(difference)
	}
}

// differences tells where found is not what was acknowledged.
func (w *crashWorker) differences(found map[string][]byte) []string {
	var differences []string
	for name, value := range w.items {
		got, ok := found[name]
		if !ok {
			differences = append(differences, fmt.Sprintf("%s: acknowledged, but not there", name))
		} else if !bytes.Equal(got, value) {
			differences = append(differences, fmt.Sprintf("%s: has %d bytes that are not the %d acknowledged", name, len(got), len(value)))
		}
	}
	for name := range found {
		if _, ok := w.items[name]; !ok {
			differences = append(differences, fmt.Sprintf("%s: there, but never acknowledged, or deleted", name))
		}
	}
	return differences
}
