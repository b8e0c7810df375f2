package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"packhouse/journal"
)

// A file that is made anew takes from the log what it can: rows as they were, as long as the log follows the file without a gap; behind a gap, what the
// groups that are whole say of items whose bytes lie in the log.

// LogReport is what ReadLog found.
type LogReport struct {
	// Exact tells that the file has all rows that the log has, as they were: nothing was missing in between.
	Exact   bool
	Groups  int64 // of the log that were read
	Damaged int64 // places where groups are damaged; what they said is not known
	// Segments are the files of the log with such places.
	Segments []string
	// Logged are items in the log of which the file may not know, or not what they are now, in the order in which the log says so.
	Logged []Logged
}

// Logged is what the log says last of an item whose bytes lie in it.
type Logged struct {
	Key   string
	Item  Item
	Place journal.Place // where its bytes lie
	State LoggedState
	at    journal.Position // of the group
}

// LoggedState is where an item is.
type LoggedState uint8

const (
	LoggedItem  LoggedState = iota // under its key
	LoggedTrash                    // in the trash
	LoggedKept                     // among what is kept after compactions
	LoggedGone                     // nowhere: it was removed for good. Of Item only Ref is set
)

// readRows is how many rows of the log go into the file at once.
const readRows = 64 << 10

// ReadLog reads what the log beside a file that is opened for Rebuild has beyond it. It is to be called once, before any change; the log is not
// changed. Payloads can be read from then on. It holds some hundred bytes for each item behind a gap. Errors: a record that a newer program made,
// ctx.Err(), those of writing the file; damage of the log is none.
func (x *Index) ReadLog(ctx context.Context) (LogReport, error) {
	if x.opts.Use != Rebuild || x.payloads != nil {
		return LogReport{}, errors.New("the log is read once, of an index that is made anew")
	}
	log, err := openSalvage(x.logOptions())
	if log == nil || err != nil {
		return LogReport{}, x.logError(err)
	}
	x.payloads = log
	r := &logReader{x: x, rows: rowReader{over: new(overlay)}, found: make(map[string]Logged), moved: make(map[string]journal.Place)}
	salvaged, err := log.Salvage(ctx, x.before.at, x.before.log, r.read)
	if err == nil {
		err = r.flush()
	}
	if err != nil {
		return LogReport{}, x.logError(err)
	}
	report := LogReport{
		Exact: x.before.log != 0 && salvaged.Follows && !r.gap, Groups: salvaged.Groups, Damaged: salvaged.Damaged + r.unread,
		Segments: salvaged.Segments, Logged: r.all(),
	}
	return report, x.loadCommitted()
}

// openSalvage opens a log to be read only; nil: there is none.
func openSalvage(o journal.Options) (*journal.Log, error) {
	o.ReadOnly = true
	log, err := journal.Open(o)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, nil
	}
	return log, err
}

// logReader takes the groups of a log.
type logReader struct {
	x      *Index
	rows   rowReader // of groups that follow the file, until they are written to it
	gap    bool      // a group could not be taken, or does not follow
	unread int64     // groups whose rows do not decode

	found map[string]Logged        // by ref
	moved map[string]journal.Place // likewise
}

func (r *logReader) read(record journal.Replayed, follows bool) error {
	if !follows || r.gap {
		return r.note(record)
	}
	if err := r.rows.read(record); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return err
		}
		r.unread++
		r.gap = true
		return r.flush()
	}
	if record.Last && r.rows.over.rows >= readRows {
		return r.flush()
	}
	return nil
}

// flush writes rows that follow to the file.
func (r *logReader) flush() error {
	over := r.rows.over
	r.rows.over = new(overlay)
	if over.rows == 0 {
		return nil
	}
	return r.x.writeRows(over, 0)
}

// note takes from a group behind a gap what it says of items in the log.
func (r *logReader) note(record journal.Replayed) error {
	if !r.gap {
		r.gap = true
		if err := r.flush(); err != nil {
			return err
		}
	}
	group := rowReader{over: new(overlay), body: r.rows.body}
	err := group.read(record)
	r.rows.body = group.body
	if errors.Is(err, ErrCorrupt) {
		r.unread++
		return nil
	}
	if err != nil || !record.Last {
		return err
	}
	if err := r.noteRows(group.over, record.Group); errors.Is(err, ErrCorrupt) {
		r.unread++
	} else if err != nil {
		return err
	}
	return nil
}

// noteRows looks at the rows of a group. Refs come before what they refer to.
func (r *logReader) noteRows(over *overlay, at journal.Position) error {
	for _, id := range []bucketID{bucketRefs, bucketMoved, bucketItems, bucketTrash, bucketKept} {
		if over.tables[id] == nil {
			continue
		}
		for iter := over.tables[id].Iter(); iter.Next(); {
			if err := r.noteRow(id, iter.Key(), iter.Value(), at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *logReader) noteRow(id bucketID, row string, value []byte, at journal.Position) error {
	f := Logged{at: at}
	switch {
	case id == bucketRefs && value == nil:
		f.State, f.Item.Ref = LoggedGone, row
		delete(r.moved, row)
	case value == nil, id == bucketRefs, id == bucketItems && strings.HasSuffix(row, "\x00"):
		return nil
	case id == bucketMoved:
		place, err := decodeMoved(value)
		if err == nil {
			r.moved[row] = place
		}
		return err
	case id == bucketItems:
		item, err := decodeItem(value)
		if err != nil {
			return err
		}
		f.State, f.Key, f.Item = LoggedItem, keyOf([]byte(row)), item
	case id == bucketTrash:
		record, err := decodeTrash(value)
		if err != nil {
			return err
		}
		f.State, f.Key, f.Item = LoggedTrash, record.key, record.item
	default:
		record, err := decodeKept(value)
		if err != nil {
			return err
		}
		f.State, f.Key, f.Item = LoggedKept, record.key, record.item
	}
	if _, inLog := journal.ParseRef(f.Item.Ref); inLog {
		r.found[f.Item.Ref] = f
	}
	return nil
}

// all is what was found, in order.
func (r *logReader) all() []Logged {
	all := make([]Logged, 0, len(r.found))
	for ref, f := range r.found {
		f.Place, _ = journal.ParseRef(ref)
		if moved, is := r.moved[ref]; is {
			f.Place = moved
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Logged) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.Item.Ref, b.Item.Ref)) })
	return all
}

// PayloadAt tells whether a payload lies at a place: nil, ErrNotFound when its segment is not there, ErrCorrupt when the bytes are not what was stored,
// or cannot be read.
func (x *Index) PayloadAt(at journal.Place) error {
	if x.payloads == nil || !x.payloads.HasSegment(at.Segment) {
		return ErrNotFound
	}
	_, err := x.payloads.ReadPayload(at.At(), at.Length, nil)
	if errors.Is(err, journal.ErrMissing) || errors.Is(err, journal.ErrRemoved) {
		return ErrNotFound
	}
	return x.logError(err)
}

// LookAtLog notes which segments of the log are there, for HasPayload.
func (x *Index) LookAtLog() error {
	if x.payloads == nil {
		return nil
	}
	return withoutPath(x.payloads.Look(), x.dir)
}

// HasPayload tells whether the segment is there in which the bytes of an item lie; ErrNotFound when nothing has that ref. It reads none of it.
func (x *Index) HasPayload(ref string) (bool, error) {
	if x.payloads == nil {
		return false, nil
	}
	at, err := x.locate(ref)
	if err != nil {
		return false, err
	}
	return x.payloads.HasSegment(at.Segment), nil
}

// LogMeta is a meta value as the log of the file at path has it first, nil when it has none: for a file that is lost.
func LogMeta(ctx context.Context, path string, opts Options, name string) (value []byte, err error) {
	x := newIndex(filepath.Dir(path), opts)
	log, err := openSalvage(x.logOptions())
	if log == nil || err != nil {
		return nil, x.logError(err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	found := errors.New("found")
	rows := rowReader{over: new(overlay)}
	_, err = log.Salvage(ctx, 0, 0, func(record journal.Replayed, _ bool) error {
		if err := rows.read(record); err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if !record.Last {
			return nil
		}
		row, _ := rows.over.get(bucketMeta, name)
		if value, err = decodeOpaque("meta", metaV1, row); err == nil {
			return found
		}
		rows.over = new(overlay)
		return nil
	})
	if errors.Is(err, found) {
		return value, nil
	}
	return nil, x.logError(err)
}

// repeatMeta adds the meta values, as they are, to what is changed: each segment has them, so that the log tells whose it is without
// the file, also when older segments have gone.
func (t *tx) repeatMeta() {
	type row struct{ key, value []byte }
	var rows []row
	c := t.meta.Cursor()
	for key, value := c.Seek([]byte{0x01}); key != nil; key, value = c.Next() {
		rows = append(rows, row{bytes.Clone(key), bytes.Clone(value)})
	}
	for _, r := range rows {
		t.set(t.meta, r.key, r.value)
	}
	t.hasMeta = true
	t.stand()
}

// firstPosition is where a log begins that is made for a file: behind all places that the file has of another, which is lost. Else new bytes could be
// taken for those.
func (x *Index) firstPosition() (first journal.Position, err error) {
	err = x.view(func(v *view) error {
		c := v.Bucket(bucketSegments).Cursor()
		for row, _ := c.First(); row != nil; row, _ = c.Next() {
			at, err := parseSegmentKey(row)
			if err != nil {
				return err
			}
			first = max(first, at+maxSegment)
		}
		return nil
	})
	return first, err
}

// maxSegment is the most that a segment covers.
const maxSegment = 1 << 30
