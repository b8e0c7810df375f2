package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"packhouse/index"
)

// metaCoverage is the name of the meta value that says what of the repository was verified when: a coverageRecord as JSON.
const metaCoverage = "scrub.coverage"

// coverageParts bounds the record: so many ranges of keys it has at most.
const coverageParts = 64

// Coverage is how much of a repository has been verified, and since when.
type Coverage struct {
	Items, Bytes int64     // that were verified, of those that the repository holds now at most
	Since        time.Time // when that began for the oldest of them; zero: nothing was verified
	// Oldest is a time since which every byte of the repository was verified, or written: zero if it holds nothing.
	Oldest time.Time
}

// part is a range of keys, in the order of rows: those behind the last key of the part before, up to its own.
type part struct {
	Last  string `json:"last"`            // the last key; of the last part it is empty, and stands for all that follow
	At    int64  `json:"at,omitempty"`    // the verification of these keys began, Unix ms; 0: they were not verified
	Items int64  `json:"items,omitempty"` // that were verified then
	Bytes int64  `json:"bytes,omitempty"`
}

// coverageRecord is never empty.
type coverageRecord struct {
	Parts []part `json:"parts"`
}

type coverage struct {
	mu     sync.Mutex // held over a change and its transaction
	record coverageRecord
}

func unverified() coverageRecord { return coverageRecord{Parts: []part{{}}} }

// behind tells whether key a lies behind b, both as part.Last.
func behind(a, b string) bool {
	if a == "" || b == "" {
		return a == "" && b != ""
	}
	return index.CompareKeys(a, b) > 0
}

func decodeCoverage(value []byte) (coverageRecord, error) {
	if value == nil {
		return unverified(), nil
	}
	var r coverageRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return unverified(), fmt.Errorf("what scrubs have read: %w", err)
	}
	sorted := slices.IsSortedFunc(r.Parts, func(a, b part) int {
		if behind(b.Last, a.Last) {
			return -1
		}
		return 1
	})
	if n := len(r.Parts); n == 0 || n > coverageParts || r.Parts[n-1].Last != "" || !sorted {
		return unverified(), errors.New("what scrubs have read: the ranges are not in order")
	}
	return r, nil
}

// split makes a boundary behind a key, which is not empty. Of what was verified in the part in which it lies, at most so much is taken
// to lie before it. It returns the index of the part that then begins behind the key.
func (c *coverageRecord) split(key string, items, bytes int64) int {
	i := slices.IndexFunc(c.Parts, func(p part) bool { return !behind(key, p.Last) })
	right := c.Parts[i]
	if right.Last == key {
		return i + 1
	}
	left := part{Last: key, At: right.At, Items: min(items, right.Items), Bytes: min(bytes, right.Bytes)}
	right.Items -= left.Items
	right.Bytes -= left.Bytes
	c.Parts = slices.Replace(c.Parts, i, i+1, left, right)
	return i + 1
}

// cover notes that the keys behind after, up to last, were verified: so many items and bytes. last "": all that follow.
func (c *coverageRecord) cover(after, last string, at, items, bytes int64) {
	from, to := 0, 0
	if after != "" {
		from = c.split(after, math.MaxInt64, math.MaxInt64)
	}
	if to = len(c.Parts); last != "" {
		moreItems, moreBytes := items, bytes // than those of the parts that are covered whole
		for _, p := range c.Parts[from:] {
			if behind(p.Last, last) {
				break
			}
			moreItems -= p.Items
			moreBytes -= p.Bytes
		}
		to = c.split(last, max(moreItems, 0), max(moreBytes, 0))
	}
	if from < to {
		c.Parts = slices.Replace(c.Parts, from, to, part{Last: last, At: at, Items: items, Bytes: bytes})
	}
	c.join()
}

// join makes one of neighbours that were verified at the same time, and as many more as it takes for the record to keep its bound: those
// first whose times differ least. The older time holds for both.
func (c *coverageRecord) join() {
	for {
		best, least := -1, int64(0)
		for i := range len(c.Parts) - 1 {
			difference := max(c.Parts[i].At-c.Parts[i+1].At, c.Parts[i+1].At-c.Parts[i].At)
			if best < 0 || difference < least {
				best, least = i, difference
			}
		}
		if best < 0 || least > 0 && len(c.Parts) <= coverageParts {
			return
		}
		a, b := c.Parts[best], c.Parts[best+1]
		both := part{Last: b.Last, At: min(a.At, b.At), Items: a.Items + b.Items, Bytes: a.Bytes + b.Bytes}
		if both.At == 0 {
			both.Items, both.Bytes = 0, 0
		}
		c.Parts = slices.Replace(c.Parts, best, best+2, both)
	}
}

// loadCoverage reads the record. One that cannot be read is none: then all has to be verified again.
func (r *Repository) loadCoverage() error {
	value, err := r.index.Meta(metaCoverage)
	if err != nil {
		return err
	}
	record, err := decodeCoverage(value)
	if err != nil {
		r.env.Logger.Warn("when the items were verified is not known any more", "repository", r.Name(), "error", err)
	}
	r.coverage.record = record
	return nil
}

// AllCovered is the meta value of a repository all of whose items were verified by what began at a time: so many, with so many bytes.
func AllCovered(began time.Time, items, bytes int64) (name string, value []byte, err error) {
	record := coverageRecord{Parts: []part{{At: began.UnixMilli(), Items: items, Bytes: bytes}}}
	value, err = json.Marshal(record)
	return metaCoverage, value, err
}

// Covered records that all items whose keys follow after, up to last, were verified by what began at a time: so many, with so many bytes.
// after "" is before all keys, last "" behind all.
func (r *Repository) Covered(ctx context.Context, after, last string, began time.Time, items, bytes int64) error {
	c := &r.coverage
	c.mu.Lock()
	defer c.mu.Unlock()
	record := coverageRecord{Parts: slices.Clone(c.record.Parts)}
	record.cover(after, last, began.UnixMilli(), items, bytes)
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if _, err := r.apply(ctx, index.SetMeta{Name: metaCoverage, Value: value}); err != nil {
		return err
	}
	c.record = record
	return nil
}

// Coverage tells what scrubs have read. A part of the keys that no scrub has reached counts as not read since the repository was created.
func (r *Repository) Coverage() (c Coverage) {
	r.coverage.mu.Lock()
	defer r.coverage.mu.Unlock()
	now := r.env.Now()
	oldest := now
	for _, p := range r.coverage.record.Parts {
		at := time.UnixMilli(p.At)
		if at.After(now) {
			at = now // the clock was ahead
		}
		if p.At == 0 {
			oldest = r.created
			continue
		}
		c.Items += p.Items
		c.Bytes += p.Bytes
		if c.Since.IsZero() || at.Before(c.Since) {
			c.Since = at
		}
	}
	if !c.Since.IsZero() && c.Since.Before(oldest) {
		oldest = c.Since
	}
	total := r.index.Counters()
	c.Items, c.Bytes = min(c.Items, total.Items), min(c.Bytes, total.Bytes)
	if total.Items > 0 {
		c.Oldest = oldest
	}
	return c
}

// roundSave is how long a Round goes on before it records what it has verified.
const roundSave = 10 * time.Second

// Round verifies items one after the other, in the order of their keys, and records what it has verified. It must be ended. Not safe
// for concurrent use.
type Round struct {
	r     *Repository
	began time.Time
	saved time.Time // when it recorded last, by a clock that nobody sets
	from  string    // what follows this key is not recorded yet
	last  string    // was verified last
	items int64     // since from
	bytes int64
}

// BeginRound begins with the items that follow a key; "" is before all.
func (r *Repository) BeginRound(after string) *Round {
	return &Round{r: r, began: r.env.Now(), saved: time.Now(), from: after, last: after}
}

// Verify is Repository.Verify of the next item. One that the disk cannot read is not recorded as verified.
func (v *Round) Verify(ctx context.Context, entry index.Entry, pace func(n int64) error) error {
	err := v.r.Verify(ctx, entry, pace)
	switch {
	case err == nil || errors.Is(err, ErrCorrupt):
		v.last = entry.Key
		v.items++
		v.bytes += entry.Item.Size
		if time.Since(v.saved) > roundSave {
			v.save(ctx, false)
		}
	case ctx.Err() == nil:
		v.save(ctx, false)
		v.from, v.last = entry.Key, entry.Key
	}
	return err
}

// End records what was not recorded yet. all tells that no items follow.
func (v *Round) End(all bool) { v.save(context.Background(), all) }

// save records what was verified since it did so last; all: and that nothing follows.
func (v *Round) save(ctx context.Context, all bool) {
	v.saved = time.Now()
	if v.last == v.from && !all || v.r.readOnlyDisk {
		return // nothing is new, or it cannot be kept
	}
	last := v.last
	if all {
		last = ""
	}
	if err := v.r.Covered(context.WithoutCancel(ctx), v.from, last, v.began, v.items, v.bytes); err != nil {
		v.r.env.Logger.Warn("what was verified could not be recorded", "repository", v.r.Name(), "error", err)
	}
	v.from, v.items, v.bytes = v.last, 0, 0
}
