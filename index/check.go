package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"packhouse/journal"
)

// maxProblems bounds CheckReport.Problems.
const maxProblems = 100

// CheckReport is the outcome of Check.
type CheckReport struct {
	Counted  Counters // recomputed by walking
	Stored   Counters
	Problems []string // at most 100
}

// Check checks everything in one snapshot: first all pages, each once (see structureCheck); if they are right, the rows: counters
// against a recount, refs in both directions, that records decode, that parents exist. It changes nothing. Its memory
// does not depend on the number of items, except for one bit for each page. Damage is in the report, also of a page that cannot
// be read; an error means that the check could not be finished. Damage returns the outcome.
func (x *Index) Check(ctx context.Context) (report CheckReport, err error) {
	err = x.view(func(s *view) error {
		if err := x.checkPages(ctx, s.snapshot, &report); err != nil {
			return err
		}
		if len(report.Problems) > 0 {
			report.Stored = x.Counters()
			report.problem("the rows were not compared with each other, as pages are damaged")
			return nil
		}
		return checkRows(ctx, s, &report)
	})
	if errors.Is(err, ErrCorrupt) { // a page changed since, or the index was given up
		report.problem("%v", err)
		err = nil
	}
	switch {
	case err != nil:
	case len(report.Problems) == 0:
		x.damage.Store(nil)
	default:
		x.note(fmt.Errorf("%w: %s", ErrCorrupt, report.Problems[0]))
	}
	return report, err
}

// checkPages looks at the meta pages, and at those of the snapshot.
func (x *Index) checkPages(ctx context.Context, s *snapshot, report *CheckReport) error {
	bad, err := x.checkMetas(ctx)
	if err != nil {
		return err
	}
	if bad != nil {
		report.problem("%v", bad)
	}
	c := structureCheck{meta: s.meta, ctx: ctx, file: x.file, leaves: true, problem: func(err error) error {
		if !report.problem("%v", err) {
			return errEnd
		}
		return nil
	}}
	if err := c.run(); !errors.Is(err, errEnd) {
		return err
	}
	return nil
}

// checkMetas tells what is wrong with the meta pages. A commit may be writing one of them while it is read.
func (x *Index) checkMetas(ctx context.Context) (bad, err error) {
	for range 3 {
		info, err := x.file.Stat()
		if err != nil {
			return nil, ErrClosed
		}
		var state error
		if _, bad, state = readMetas(x.file, info.Size()); state != nil {
			bad = corrupt(state)
		}
		if bad == nil {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return bad, nil
}

// checkRows looks at the rows of a snapshot whose pages are right.
func checkRows(ctx context.Context, b *view, report *CheckReport) (err error) {
	c := checker{ctx: ctx, report: report, live: make(map[string]segment), segments: b.Bucket(bucketSegments), moved: b.Bucket(bucketMoved), movedTo: b.Bucket(bucketMovedTo)}
	c.items, c.refs = b.Bucket(bucketItems), b.Bucket(bucketRefs)
	c.trash, c.counters = b.Bucket(bucketTrash), b.Bucket(bucketCounters)
	c.plans, c.sources = b.Bucket(bucketPlans), b.Bucket(bucketSources)
	c.kept, c.keys = b.Bucket(bucketKept), b.Bucket(bucketKeptKeys)
	if report.Stored, err = decodeCounters(c.counters.Get(totalRow)); err != nil {
		c.problem("counters of the repository: %v", err)
	}
	steps := []func() error{c.checkItems, c.checkTrash, c.checkPlans, c.checkSources, c.checkKept, c.checkKeptKeys, c.checkRefs, c.checkMoved, c.checkSegments, c.checkTops, func() error { return c.checkRest(b) }}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if report.Counted != report.Stored {
		c.problem("counters of the repository: stored %+v, counted %+v", report.Stored, report.Counted)
	}
	return nil
}

// problem adds one, unless there are enough.
func (r *CheckReport) problem(format string, args ...any) bool {
	if len(r.Problems) >= maxProblems {
		return false
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	return true
}

type checker struct {
	ctx                          context.Context
	report                       *CheckReport
	items, refs, trash, counters *table
	plans, sources, kept, keys   *table
	segments, moved, movedTo     *table
	live                         map[string]segment // counted, by row key
	hashed                       int                // items whose ref has a hash of their row key
	charges                      int64              // counted

	parent []byte // row of the last directory found to exist; nil: the root
	top    string // top-level directory being counted
	inTop  Counters
	inRoot Counters
}

func (c *checker) problem(format string, args ...any) { c.report.problem(format, args...) }

// each calls fn for the rows of a bucket and looks at ctx now and then.
func (c *checker) each(bucket *table, fn func(row, value []byte)) error {
	cursor, n := bucket.Cursor(), 0
	for row, value := cursor.First(); row != nil; row, value = cursor.Next() {
		if n++; n%1024 == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
		}
		fn(row, value)
	}
	return c.ctx.Err()
}

// checkItems counts the items; those of one top-level directory follow each
// other, those of the root lie between them.
func (c *checker) checkItems() error {
	err := c.each(c.items, func(row, value []byte) {
		key := keyOf(row)
		if err := checkKey(key); err != nil {
			c.problem("key %q: %v", key, err)
		}
		c.checkParent(key)
		if isDirRow(row) {
			if _, err := decodeDir(value); err != nil {
				c.problem("directory %q: %v", key, err)
			}
			if c.items.Get(row[:len(row)-1]) != nil {
				c.problem("%q is both an item and a directory", key)
			}
			c.charges += chargeOf(row)
			if parentOf(key) == "" {
				c.endTop()
				c.top = key
			}
			return
		}
		item, err := decodeItem(value)
		if err != nil {
			c.problem("item %q: %v", key, err)
			return
		}
		c.checkRef(item.Ref, refTarget{row: row})
		if item.Plan != 0 && c.sources.Get(sourceKey(item.Plan, row)) == nil {
			c.problem("item %q is a source of plan %d, which does not know it", key, item.Plan)
		}
		n := live(&item)
		c.report.Counted.add(n)
		if item.Flags&FlagExempt == 0 {
			c.charges += chargeOf(row)
		}
		n = n.ofTop()
		top := topOf(key)
		if top == "" {
			c.inRoot.add(n)
			return
		}
		if top != c.top {
			c.endTop()
			c.top = top
		}
		c.inTop.add(n)
	})
	if err != nil {
		return err
	}
	c.endTop()
	c.compareTop("", c.inRoot)
	if value := c.counters.Get(chargesRow); value != nil { // else they are counted when they are needed
		if stored, err := decodeCharges(value); err != nil || stored != c.charges {
			c.problem("charges: stored %d (%v), counted %d", stored, err, c.charges)
		}
	}
	return nil
}

func (c *checker) checkParent(key string) {
	parent := dirRow(parentOf(key))
	if bytes.Equal(parent, c.parent) {
		return
	}
	c.parent = parent
	if parent != nil && c.items.Get(parent) == nil {
		c.problem("%q has no parent directory", key)
	}
}

func (c *checker) endTop() {
	if c.top != "" {
		c.compareTop(c.top, c.inTop)
	}
	c.top, c.inTop = "", Counters{}
}

func (c *checker) compareTop(top string, counted Counters) {
	stored, err := readCounters(c.counters, topRow(top))
	if err != nil {
		c.problem("counters of %q: %v", top, err)
	} else if stored != counted {
		c.problem("counters of %q: stored %d items, %d bytes, counted %d, %d", top, stored.Items, stored.Bytes, counted.Items, counted.Bytes)
	}
}

// checkTops finds counters of directories that are not there.
func (c *checker) checkTops() error {
	return c.each(c.counters, func(row, _ []byte) {
		if bytes.Equal(row, totalRow) || bytes.Equal(row, chargesRow) {
			return
		}
		top := string(row[1:])
		if row[0] != 0x01 {
			c.problem("unknown row %x in counters", row)
		} else if top != "" && c.items.Get(dirRow(top)) == nil {
			c.problem("counters of %q: there is no such directory", top)
		}
	})
}

func (c *checker) checkTrash() error {
	return c.each(c.trash, func(row, value []byte) {
		removed, err := decodeRemoved(row, value)
		if err != nil {
			c.problem("trash row %x: %v", row, err)
			return
		}
		c.checkRef(removed.Item.Ref, refTarget{in: inTrash, row: row})
		c.report.Counted.add(trashed(&removed.Item))
	})
}

// checkPlans holds the plans against the rows of their sources.
func (c *checker) checkPlans() error {
	return c.each(c.plans, func(row, value []byte) {
		p, err := decodePlan(row, value)
		if err != nil {
			c.problem("plan %x: %v", row, err)
			return
		}
		c.report.Counted.Plans++
		var n, size int64
		cursor := c.sources.Cursor()
		for source, _ := cursor.Seek(row); bytes.HasPrefix(source, row); source, _ = cursor.Next() {
			n++
			if item, err := decodeItem(c.items.Get(source[planKeySize:])); err == nil {
				size += item.Size
			}
		}
		if n != p.Sources || size != p.Bytes {
			c.problem("plan %d: stored %d sources, %d bytes, counted %d, %d", p.ID, p.Sources, p.Bytes, n, size)
		}
	})
}

// checkSources goes from each source to its plan and its item.
func (c *checker) checkSources() error {
	return c.each(c.sources, func(row, _ []byte) {
		if len(row) <= planKeySize {
			c.problem("source %x: its key is too short", row)
			return
		}
		item, err := decodeItem(c.items.Get(row[planKeySize:]))
		if id := planKey(item.Plan); err != nil || !bytes.Equal(id, row[:planKeySize]) || c.plans.Get(id) == nil {
			c.problem("source %x leads to item %q, which is none of that plan", row, keyOf(row[planKeySize:]))
		}
	})
}

func (c *checker) checkKept() error {
	return c.each(c.kept, func(row, value []byte) {
		kept, err := decodeKeptRow(row, value)
		if err != nil {
			c.problem("kept row %x: %v", row, err)
			return
		}
		c.checkRef(kept.Item.Ref, refTarget{in: inKept, row: row})
		c.report.Counted.KeptItems++
		c.report.Counted.KeptBytes += kept.Item.Size
		item := rowKey(kept.Key)
		if !bytes.Equal(c.keys.Get(item), row) {
			c.problem("kept row %x is not found under its key %q", row, kept.Key)
		}
		if c.items.Get(item) != nil {
			c.problem("%q is kept, and an item", kept.Key)
		}
	})
}

func (c *checker) checkKeptKeys() error {
	return c.each(c.keys, func(item, row []byte) {
		if record, err := decodeKept(c.kept.Get(row)); err != nil || !bytes.Equal(rowKey(record.key), item) {
			c.problem("key %q leads to kept row %x, which has not that key", keyOf(item), row)
		}
	})
}

// checkRef goes from an item or trash row to its ref.
func (c *checker) checkRef(ref string, want refTarget) {
	got, err := decodeRef(c.refs.Get([]byte(ref)))
	if err != nil || !got.leadsTo(want.in, want.row) {
		c.problem("ref %x does not lead to %s", ref, want)
	} else if got.row == nil {
		c.hashed++
	}
}

// checkRefs goes from each ref to its item or trash row. Of a ref that has a hash only, the item cannot be found: as all items
// were found to have theirs, it is enough that there are no more of them than items.
func (c *checker) checkRefs() error {
	hashed := 0
	err := c.each(c.refs, func(ref, value []byte) {
		target, err := decodeRef(value)
		if err != nil {
			c.problem("ref %x: %v", ref, err)
			return
		}
		if target.row == nil {
			hashed++
			return
		}
		var item Item
		switch target.in {
		case inTrash:
			var record trashRecord
			record, err = decodeTrash(c.trash.Get(target.row))
			item = record.item
		case inKept:
			var record keptRecord
			record, err = decodeKept(c.kept.Get(target.row))
			item = record.item
		default:
			item, err = decodeItem(c.items.Get(target.row))
		}
		if _, ok := journal.ParseRef(string(ref)); ok {
			c.countLive(string(ref))
		}
		if err != nil || item.Ref != string(ref) {
			c.problem("ref %x leads to %s, which has not that ref", ref, target)
		}
	})
	if hashed != c.hashed {
		c.problem("%d refs lead to items by their hash, and %d items have such a ref", hashed, c.hashed)
	}
	return err
}

// countLive counts a payload where it lies.
func (c *checker) countLive(ref string) {
	at, err := location(c.moved, ref)
	if err != nil {
		c.problem("payload of ref %x: %v", ref, err)
		return
	}
	row := string(segmentKey(at.Segment))
	s := c.live[row]
	c.live[row] = segment{s.blobs + 1, s.bytes + at.Length}
}

// checkMoved compares the two directions of what was moved, and wants a ref for each.
func (c *checker) checkMoved() error {
	err := c.each(c.moved, func(ref, value []byte) {
		at, err := decodeMoved(value)
		if err != nil || !bytes.Equal(c.movedTo.Get(placeKey(at)), ref) || c.refs.Get(ref) == nil {
			c.problem("moved payload of ref %x: it lies at %+v (%v), where another is, or nothing has that ref", ref, at, err)
		}
	})
	if err != nil {
		return err
	}
	return c.each(c.movedTo, func(place, ref []byte) {
		if at, err := decodeMoved(c.moved.Get(ref)); err != nil || !bytes.Equal(placeKey(at), place) {
			c.problem("place %x of the log leads to ref %x, which lies elsewhere", place, ref)
		}
	})
}

// checkSegments holds what is live in the segments of the log against what refs lead to.
func (c *checker) checkSegments() error {
	err := c.each(c.segments, func(row, value []byte) {
		if s, err := decodeSegment(value); err != nil || s != c.live[string(row)] {
			c.problem("segment %x: stored %+v (%v), counted %+v", row, s, err, c.live[string(row)])
		}
		delete(c.live, string(row))
	})
	for row, s := range c.live {
		c.problem("segment %x has no row, and refs lead to %+v", row, s)
	}
	return err
}

func (r refTarget) String() string {
	switch r.in {
	case inTrash:
		return fmt.Sprintf("trash row %x", r.row)
	case inKept:
		return fmt.Sprintf("kept row %x", r.row)
	}
	return fmt.Sprintf("item %q", keyOf(r.row))
}

// checkRest decodes what nothing else refers to.
func (c *checker) checkRest(b *view) error {
	rest := []struct {
		bucket bucketID
		decode func(row, value []byte) error
	}{
		{bucketMeta, func(row, value []byte) (err error) {
			switch {
			case bytes.Equal(row, formatRow):
			case bytes.Equal(row, appliedRow):
				_, err = decodeApplied(value)
			case bytes.HasPrefix(row, sequencePrefix):
				_, err = decodeSequence(value)
			case bytes.Equal(row, markRow):
				_, err = decodeMark(value)
			default:
				_, err = decodeOpaque("meta", metaV1, value)
			}
			return err
		}},
		{bucketHistory, func(row, value []byte) error {
			_, err := decodeChange(row, value)
			c.report.Counted.Changes++
			return err
		}},
		{bucketLocks, func(_, value []byte) error { _, err := decodeLock("", value); return err }},
		{bucketJobs, func(_, value []byte) error { _, err := decodeOpaque("job", jobV1, value); return err }},
		{bucketWriters, func(_, value []byte) error { _, err := decodeWriter(value); return err }},
	}
	for _, r := range rest {
		err := c.each(b.Bucket(r.bucket), func(row, value []byte) {
			if err := r.decode(row, value); err != nil {
				c.problem("%s %q: %v", r.bucket, row, err)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
