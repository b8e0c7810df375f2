package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/index"
)

// GrowthDays is how many days the table of the growth has at most: the oldest go.
const GrowthDays = 400

// GrowthDay is what a repository was at the end of a day, as far as it was recorded.
type GrowthDay struct {
	Day   time.Time // its beginning, UTC
	Bytes int64     // of all items
	Added int64     // bytes that clients stored on that day, with those that were removed since; not what compactions wrote
}

// metaGrowth is the name of the meta value that has the table of the growth.
//
// Growth table, format 1. Integers are varints of encoding/binary:
//
//	version u8 = 1 | row, n x: days since the row before, or since 1970-01-01 | change of Bytes since the row before, signed | Added
//
// Days lie in order and none is there twice. A day on which nothing changed may have no row: its Bytes are those of the row before.
const metaGrowth = "growth"

const growthV1 = 1

// growth is the table, and what is not in it yet.
type growth struct {
	// added counts the bytes that clients stored since the last record. It is in memory: a restart loses those of an hour. They are for a plot,
	// and worth no write of their own beside each item's.
	added atomic.Int64

	mu    sync.Mutex // held over one RecordGrowth, and one Growth
	table []GrowthDay
	known bool // table is what is stored; guarded by mu, like table
}

const day = 24 * time.Hour

// RecordGrowth stores what the repository is today, if anything has changed since it was last stored. When err is nil, that is durable.
// Once an hour is enough: bytes that were stored since the last call count for the day of this one.
func (r *Repository) RecordGrowth(ctx context.Context) error {
	g := &r.growth
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := r.loadGrowth(); err != nil {
		return err
	}
	today := r.env.Now().UTC().Truncate(day)
	table := slices.Clone(g.table)
	// A clock that was wrong has left days that are yet to come.
	table = slices.DeleteFunc(table, func(d GrowthDay) bool { return d.Day.After(today) })
	bytes, added := r.index.Counters().Bytes, g.added.Load()
	last := len(table) - 1
	switch {
	case last >= 0 && added == 0 && table[last].Bytes == bytes && len(table) == len(g.table):
		return nil
	case last >= 0 && table[last].Day.Equal(today):
		table[last].Bytes = bytes
		table[last].Added += added
	default:
		table = append(table, GrowthDay{Day: today, Bytes: bytes, Added: added})
	}
	table = table[max(0, len(table)-GrowthDays):]
	if err := r.SetMeta(ctx, metaGrowth, encodeGrowth(table)); err != nil {
		return err
	}
	g.table = table
	g.added.Add(-added)
	return nil
}

// Growth returns the days that are recorded, the oldest first, and today as it is now.
func (r *Repository) Growth() ([]GrowthDay, error) {
	g := &r.growth
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := r.loadGrowth(); err != nil {
		return nil, err
	}
	now := GrowthDay{Day: r.env.Now().UTC().Truncate(day), Bytes: r.index.Counters().Bytes, Added: g.added.Load()}
	table := slices.Clone(g.table)
	if last := len(table) - 1; last >= 0 && !table[last].Day.Before(now.Day) {
		table[last].Bytes = now.Bytes
		table[last].Added += now.Added
		return table, nil
	}
	return append(table, now), nil
}

// loadGrowth reads the table unless it is known. mu is held.
func (r *Repository) loadGrowth() error {
	g := &r.growth
	if g.known {
		return nil
	}
	value, err := r.Meta(metaGrowth)
	if err != nil {
		return err
	}
	table, err := decodeGrowth(value)
	if err != nil {
		// It is worth a plot, and no error of the repository: it begins anew.
		r.env.Logger.Warn("the recorded growth cannot be read and begins anew", "repository", r.Name(), "error", err)
		table = nil
	}
	g.table, g.known = table, true
	return nil
}

func encodeGrowth(table []GrowthDay) []byte {
	b := []byte{growthV1}
	var before GrowthDay
	before.Day = time.Unix(0, 0)
	for _, d := range table {
		b = binary.AppendUvarint(b, uint64(d.Day.Sub(before.Day)/day))
		b = binary.AppendVarint(b, d.Bytes-before.Bytes)
		b = binary.AppendUvarint(b, uint64(d.Added))
		before = d
	}
	return b
}

var errGrowth = fmt.Errorf("table of the growth: %w", index.ErrCorrupt)

// decodeGrowth reads a table; nil: an empty one.
func decodeGrowth(b []byte) (table []GrowthDay, err error) {
	if b == nil {
		return nil, nil
	}
	if len(b) == 0 || b[0] != growthV1 {
		return nil, errGrowth
	}
	b = b[1:]
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, n = errGrowth, len(b)
		}
		b = b[n:]
		return v
	}
	at, bytes := uint64(0), int64(0)
	for len(b) > 0 {
		days := uvarint()
		change, n := binary.Varint(b)
		if n <= 0 {
			return nil, errGrowth
		}
		b = b[n:]
		added := uvarint()
		const most = 200 * 365 // some 200 years, as time.Duration has
		if at += days; err != nil || days == 0 || days > most || at > most || len(table) == GrowthDays {
			return nil, errGrowth
		}
		if bytes += change; bytes < 0 || int64(added) < 0 {
			return nil, errGrowth
		}
		table = append(table, GrowthDay{Day: time.Unix(0, 0).UTC().Add(time.Duration(at) * day), Bytes: bytes, Added: int64(added)})
	}
	return table, nil
}

// Writer is a principal that has completed backups, and when it last did.
type Writer struct {
	Name string
	Last time.Time
}

// LatestWriters returns the principals that have completed backups, at most n, those with the latest first, and how many there are.
func (r *Repository) LatestWriters(n int) (writers []Writer, total int, err error) {
	err = r.index.Writers(func(f index.Freshness) error {
		total++
		at, _ := slices.BinarySearchFunc(writers, f.At, func(w Writer, at time.Time) int { return at.Compare(w.Last) })
		if at < n {
			writers = slices.Insert(writers, at, Writer{f.Writer, f.At})
			writers = writers[:min(n, len(writers))]
		}
		return nil
	})
	return writers, total, r.translate(err)
}
