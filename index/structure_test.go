package index_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"packhouse/index"
	"packhouse/internal/sampling"
)

// TestBoltKeepsStructure: what is wanted of a file is what bbolt makes, whatever is put and deleted. Were it not, a sound index
// would be taken for a damaged one.
func TestBoltKeepsStructure(t *testing.T) {
	for seed := range sampling.Seeds(t, 10, 40) {
		random := rand.New(rand.NewPCG(9, seed))
		path := filepath.Join(t.TempDir(), fmt.Sprint(seed))
		db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoGrowSync: true, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		span, longestKey, longestValue := 1+random.IntN(3000), []int{8, 60, 900, 3000}[random.IntN(4)], []int{1, 100, 3000}[random.IntN(3)]
		for round := range 100 {
			deletes, run := random.IntN(4), random.IntN(30)
			err := db.Update(func(tx *bolt.Tx) error {
				for range 1 + random.IntN(200) {
					b, err := tx.CreateBucketIfNotExists([]byte{'a' + byte(random.IntN(3))})
					if err != nil {
						return err
					}
					key := fmt.Appendf(nil, "%06d%0*d", random.IntN(span), 1+random.IntN(longestKey), 0)
					if random.IntN(4) > deletes {
						if err := b.Put(key, make([]byte, random.IntN(longestValue+1))); err != nil {
							return err
						}
						continue
					}
					for range run + 1 { // those that follow each other, so that whole pages become empty
						next, _ := b.Cursor().Seek(key)
						if next == nil {
							break
						}
						key = bytes.Clone(next)
						if err := b.Delete(key); err != nil {
							return err
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if round%10 == 0 {
				if problems, err := index.CheckStructure(path); err != nil || len(problems) > 0 {
					t.Fatalf("seed %d, round %d: %v, %v", seed, round, problems, err)
				}
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGrowsBeyondMapping: a file that outgrows its memory mapping is mapped anew, beside readers.
func TestGrowsBeyondMapping(t *testing.T) {
	const mapping = 1 << 25
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.OpenSized(path, index.Options{}, mapping)
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := x.Jobs(func(index.Job) error { return nil }); err != nil {
				stopped <- err
				return
			}
		}
	}()
	record := make([]byte, 5<<20)
	const records = 8
	for i := range records {
		for n := range record {
			record[n] = byte(i)
		}
		apply(t, x, index.PutJob{Job: index.Job{ID: fmt.Sprintf("%02d", i), Record: bytes.Clone(record)}})
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	n := 0
	err = x.Jobs(func(job index.Job) error {
		if job.ID != fmt.Sprintf("%02d", n) || len(job.Record) != len(record) || job.Record[0] != byte(n) || job.Record[len(record)-1] != byte(n) {
			t.Errorf("job %s: got %d bytes", job.ID, len(job.Record))
		}
		n++
		return nil
	})
	if err != nil || n != records {
		t.Errorf("got %d jobs, %v, want %d", n, err, records)
	}
	checkWhole(t, x)
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if used := len(readUsed(t, path)); x.Broken() || x.Mapped() < used || x.Mapped() == mapping {
		t.Errorf("broken %v, mapped %d bytes, used %d", x.Broken(), x.Mapped(), used)
	}
	checkWhole(t, open(t, path, index.Options{}))
}
