package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// LogDir is the directory of the log, beside the file.
const LogDir = "log"

// appliedRow is the position of the log up to which the file has its rows. A file without it has no log.
var appliedRow = []byte("\x00applied")

func (x *Index) logOptions() journal.Options {
	fsys := x.opts.FS
	if fsys == nil {
		fsys = vfs.OS()
	}
	return journal.Options{Dir: filepath.Join(x.dir, LogDir), FS: fsys, ReadOnly: x.opts.ReadOnly}
}

// beginLog opens the log and reads what the file does not have yet. A file that has no log gets one. from is the format that the file
// had before it was opened.
func (x *Index) beginLog(from uint32) error {
	applied, has, err := x.applied()
	switch {
	case err != nil:
		return err
	case x.opts.Use == Rebuild:
		if !has {
			return nil
		}
		err := x.write([]fileRow{{bucketMeta, appliedRow, nil}})
		if err == nil {
			x.show()
		}
		return err
	case has:
		return x.openLog(applied)
	case x.opts.ReadOnly:
		return nil
	}
	return x.createLog(from)
}

// applied reads appliedRow.
func (x *Index) applied() (at journal.Position, has bool, err error) {
	err = x.view(func(v *view) error {
		value := v.Bucket(bucketMeta).Get(appliedRow)
		if value == nil {
			return nil
		}
		n, err := decodeSequence(value)
		at, has = journal.Position(n), true
		return err
	})
	return at, has, err
}

// createLog makes the log of a file that has none: a new one, or a new part of the one that lies there, which stays as it is. That is the
// case where the making of an index was interrupted, and where a file was rebuilt. The row in the file comes last. from is as in beginLog.
func (x *Index) createLog(from uint32) error {
	o := x.logOptions()
	if has, err := journal.Exists(o); err != nil {
		return x.logError(err)
	} else if has && from != format {
		return fmt.Errorf("%w: it is of format %d, which has no log, and there is one (directory %s): it is of a newer index", ErrCorrupt, from, LogDir)
	}
	at, err := journal.Extend(o)
	if errors.Is(err, journal.ErrNotFound) {
		err = journal.Create(o, 0)
	}
	if err != nil {
		return x.logError(err)
	}
	if err := x.write([]fileRow{{bucketMeta, appliedRow, encodeSequence(uint64(at))}}); err != nil {
		return err
	}
	x.show()
	return x.openLog(at)
}

// openLog opens the log of a file that has its rows up to applied, and reads the others.
func (x *Index) openLog(applied journal.Position) error {
	log, err := journal.Open(x.logOptions())
	if err != nil {
		return x.logError(err)
	}
	over := new(overlay)
	var body []byte // of the group at hand, if it has several records
	err = log.Replay(context.Background(), applied, func(r journal.Replayed) error {
		if r.Kind != journal.KindRows {
			return fmt.Errorf("%w: log record of kind %d; a newer program may know it", ErrBadVersion, r.Kind)
		}
		if !r.Last {
			body = append(body, r.Body...)
			return nil
		}
		all := r.Body
		if len(body) > 0 {
			all = append(body, r.Body...)
		}
		body = nil
		return decodeRows(all, over)
	})
	if err != nil {
		return errors.Join(x.logError(err), log.Close())
	}
	x.log = log
	p := &x.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over, p.applied, p.end = over, applied, log.End()
	if over.rows > 0 {
		p.wake()
	}
	x.snapshots.publishOverlay(over)
	return nil
}

// logError makes errors of the log those of this package.
func (x *Index) logError(err error) error {
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return fmt.Errorf("%w: its log is missing (directory %s): put it back", ErrCorrupt, LogDir)
	case errors.Is(err, journal.ErrCorrupt):
		return fmt.Errorf("%w: log: %w", ErrCorrupt, err)
	case errors.Is(err, journal.ErrVersion):
		return fmt.Errorf("%w: log: %w", ErrBadVersion, err)
	case errors.Is(err, journal.ErrNoSpace):
		return &unchanged{fmt.Errorf("%w: %w", ErrNoSpace, err)}
	}
	return err
}

// appendRows makes the rows of a transaction durable in the log, and the payloads to which they refer, before them.
func (x *Index) appendRows(t *tx, rows []rowID) (end journal.Position, err error) {
	body := appendRows(x.encoded[:0], t.over, rows)
	var records []journal.Record
	if len(t.payloads) > 0 {
		records = append(records, journal.Record{Kind: journal.KindRows, Payloads: t.payloads})
	}
	for rest := body; len(rest) > 0; {
		n := min(len(rest), journal.MaxBody)
		records = append(records, journal.Record{Kind: journal.KindRows, Body: rest[:n]})
		rest = rest[n:]
	}
	at, err := x.log.Append(records)
	if cap(body) <= keepEncoded {
		x.encoded = body
	}
	return at.End, x.logError(err)
}

// keepEncoded is how much memory for encoded rows is kept from one group to the next, in bytes.
const keepEncoded = 1 << 20

// The body of a group in the log; doc.go has the layout.
const (
	rowsV1     = 1
	rowDeleted = 0x80
)

func appendRows(b []byte, over *overlay, rows []rowID) []byte {
	b = append(b, rowsV1)
	for _, row := range rows {
		value, _ := over.get(row.bucket, row.key)
		if value == nil {
			b = append(b, byte(row.bucket)|rowDeleted)
			b = appendLong(b, row.key)
			continue
		}
		b = append(b, byte(row.bucket))
		b = appendLong(b, row.key)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
		b = append(b, value...)
	}
	return b
}

// decodeRows sets the rows of a group.
func decodeRows(b []byte, over *overlay) error {
	f := fields{b: b}
	if version := f.u8(); version != rowsV1 {
		return fmt.Errorf("%w: rows of version %d in the log; a newer program may know it", ErrBadVersion, version)
	}
	for !f.bad && len(f.b) > 0 {
		id := f.u8()
		deleted := id&rowDeleted != 0
		bucket := bucketID(id &^ rowDeleted)
		key := f.long()
		var value []byte
		if !deleted {
			value = f.next(int(f.u32()))
			f.bad = f.bad || len(value) == 0
		}
		if f.bad || bucket < bucketMeta || bucket >= bucketEnd || len(key) == 0 || len(key) > maxRow {
			return damaged("log")
		}
		over.set(bucket, string(key), bytes.Clone(value))
	}
	if f.bad {
		return damaged("log")
	}
	return nil
}
