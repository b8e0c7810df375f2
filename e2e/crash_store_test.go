//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestCrash is for clients of the BorgStore protocol that store, overwrite, move, delete, defrag and list.
func TestCrash(t *testing.T) {
	t.Parallel()
	seed, random := crashRandom(t)
	s := startServer(t, "--quota", "1T", "--log-level", "warn")
	client := newStoreClient(s, "crash", 16)
	if err := client.create(); err != nil {
		t.Fatal(err)
	}
	workers := make([]*crashWorker, 8)
	for i := range workers {
		workers[i] = storeWorker(t, client, "crash", i, seed)
	}
	crash(t, s, s.data, workers, random)
}

// storeWorker is the i-th worker of a test, with a directory of its own.
func storeWorker(t *testing.T, client *storeClient, repository string, i int, seed uint64) *crashWorker {
	t.Helper()
	w := &crashWorker{t: t, protocol: crashStore{client}, repository: repository, dir: fmt.Sprintf("w%d", i),
		random: rand.New(rand.NewPCG(seed, uint64(i+1))), items: make(map[string][]byte),
		counts: func(string) bool { return true }}
	if _, err := client.do("POST", "/"+w.dir+"?cmd=mkdir", nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// crashStore is a crashProtocol.
type crashStore struct{ client *storeClient }

func (c crashStore) step(w *crashWorker) (map[string][]byte, error) {
	fresh := fmt.Sprintf("%s/%02x/n%d", w.dir, w.random.IntN(16), w.next)
	names := w.names()
	action := w.random.IntN(100)
	if len(names) < 4 || action < 40 && len(names) < 120 {
		value := w.value()
		return map[string][]byte{fresh: value}, c.client.store(fresh, value)
	}
	name, other := names[w.random.IntN(len(names))], names[w.random.IntN(len(names))]
	switch {
	case action < 50:
		value := w.value()
		return map[string][]byte{name: value}, c.client.store(name, value)
	case action < 65:
		w.next++
		return map[string][]byte{name: nil, fresh: w.items[name]}, c.client.move(name, fresh)
	case action < 70 && name != other:
		return map[string][]byte{name: nil, other: w.items[name]}, c.client.move(name, other)
	case action < 78:
		return c.defrag(w, names)
	case action < 82:
		_, err := c.client.list(w.dir)
		return nil, err
	default:
		return map[string][]byte{name: nil}, c.client.delete(name)
	}
}

// defrag joins ranges of some items to a new one.
func (c crashStore) defrag(w *crashWorker, names []string) (map[string][]byte, error) {
	var sources []source
	joined := []byte{}
	for range 1 + w.random.IntN(5) {
		name := names[w.random.IntN(len(names))]
		offset := w.random.IntN(len(w.items[name]) + 1)
		size := w.random.IntN(len(w.items[name]) - offset + 1)
		sources = append(sources, source{name, offset, size})
		joined = append(joined, w.items[name][offset:offset+size]...)
	}
	target := ""
	digest := sha256.Sum256(joined)
	want := w.dir + "/" + hex.EncodeToString(digest[:])
	if w.random.IntN(2) == 0 {
		target = names[w.random.IntN(len(names))]
		want = target
	}
	got, err := c.client.defrag(sources, target, w.dir)
	if err == nil && got != want {
		w.t.Errorf("defrag made %q, want %q", got, want)
	}
	return map[string][]byte{want: joined}, err
}

func (c crashStore) found(w *crashWorker) (map[string][]byte, error) {
	found := make(map[string][]byte)
	err := c.client.walk(w.dir, func(name string, size int64) {
		value, err := c.client.load(name)
		if err != nil || int64(len(value)) != size {
			w.t.Errorf("%s is listed with %d bytes; its content: %d bytes, %v", name, size, len(value), err)
		}
		found[name] = value
	})
	return found, err
}

func (c crashStore) usage(*crashWorker) (int64, error) { return c.client.usage() }

func (crashStore) left() int { return 0 }
