package index

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// LogDir is the directory of the log, beside the file.
const LogDir = "log"

// appliedRow says up to which position of which log the file has the rows. A file without it has no log.
var appliedRow = []byte("\x00applied")

const appliedV1 = 1

// An applied is what appliedRow says.
type applied struct {
	at  journal.Position
	log uint64 // identity of the log
}

func encodeApplied(a applied) []byte {
	b := append(make([]byte, 0, 1+2*8), appliedV1)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(a.at)), a.log)
}

func decodeApplied(b []byte) (a applied, err error) {
	f := fields{b: b}
	version := f.u8()
	a.at, a.log = journal.Position(f.i64()), uint64(f.i64())
	if version != appliedV1 || !f.done() || a.at < 0 {
		return applied{}, damaged("applied")
	}
	return a, nil
}

func (x *Index) fsys() vfs.FS { return x.opts.fsys() }

// fsys is FS, or what stands for nil.
func (o Options) fsys() vfs.FS {
	if o.FS == nil {
		return vfs.OS()
	}
	return o.FS
}

// segmentSize is that of new segments of the log: on a disk that is nearly full, the one that is being written to is what deletions
// need beyond what they give back.
const segmentSize = 16 << 20

func (x *Index) logOptions() journal.Options {
	size := cmp.Or(x.opts.SegmentSize, segmentSize)
	return journal.Options{Dir: filepath.Join(x.dir, LogDir), FS: x.fsys(), ReadOnly: x.opts.ReadOnly, SegmentSize: size}
}

// beginLog opens the log and reads what the file does not have yet. A file that has no log gets one. from is the format that the file
// had before it was opened.
func (x *Index) beginLog(from uint32) error {
	a, has, err := x.applied()
	switch {
	case err != nil:
		return err
	case x.opts.Use == Rebuild && has:
		x.before = a
		return x.writeStep([]fileRow{{bucketMeta, appliedRow, nil}})
	case x.opts.Use == Rebuild:
		return nil
	case has:
		return x.openLog(a)
	case x.opts.ReadOnly:
		return nil
	}
	return x.createLog(from)
}

// applied reads appliedRow.
func (x *Index) applied() (a applied, has bool, err error) {
	err = x.view(func(v *view) error {
		value := v.Bucket(bucketMeta).Get(appliedRow)
		if value == nil {
			return nil
		}
		has = true
		a, err = decodeApplied(value)
		return err
	})
	return a, has, err
}

// createLog makes the log of a file that has none: a new one, or a new part of the one that lies there, which stays as it is. That is the
// case where the making of an index was interrupted, and where a file was rebuilt. The row in the file comes last: until then
// there is no log, whatever lies there. from is as in beginLog.
func (x *Index) createLog(from uint32) error {
	o := x.logOptions()
	if has, err := journal.Exists(o); err != nil {
		return x.logError(err)
	} else if has && from < formatV3 {
		return fmt.Errorf("%w: it is of format %d, which has no log, and there is one (directory %s): it is of a newer index", ErrCorrupt, from, LogDir)
	}
	at, err := journal.Extend(o)
	if errors.Is(err, journal.ErrNotFound) {
		if at, err = x.firstPosition(); err == nil {
			err = journal.Create(o, at, 0)
		}
	}
	if err != nil {
		return x.logError(err)
	}
	if err := x.openLog(applied{at: at}); err != nil {
		return err
	}
	return x.writeStep([]fileRow{{bucketMeta, appliedRow, encodeApplied(applied{at, x.log.Identity()})}})
}

// openLog opens the log of a file that has its rows as a says, and reads the others. Identity 0: whatever log lies there.
func (x *Index) openLog(a applied) error {
	log, err := journal.Open(x.logOptions())
	if err != nil {
		return x.logError(err)
	}
	over := new(overlay)
	r := rowReader{over: over}
	err = log.Replay(context.Background(), a.at, r.read)
	if err == nil && a.log != 0 && a.log != log.Identity() {
		err = errOtherLog
	}
	if err != nil {
		return errors.Join(x.logError(err), log.Close())
	}
	x.log, x.payloads = log, log
	p := &x.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over, p.applied, p.end = over, a.at, log.End()
	if over.rows > 0 {
		p.since = time.Now()
		p.wake()
	}
	x.snapshots.publishOverlay(over)
	return nil
}

// A rowReader puts the rows of groups into an overlay.
type rowReader struct {
	over *overlay
	body []byte // of the group at hand, if it has several records
}

func (r *rowReader) read(record journal.Replayed) error {
	if record.Kind != journal.KindRows {
		return fmt.Errorf("%w: log record of kind %d; a newer program may know it", errBadVersion, record.Kind)
	}
	body := record.Body
	if !record.Last || len(r.body) > 0 {
		r.body = append(r.body, record.Body...)
		body = r.body
	}
	if !record.Last {
		return nil
	}
	r.body = nil
	return decodeRows(body, r.over)
}

var errOtherLog = errors.New("the log is of another index")

// logError makes errors of the log those of this package, and says what does not fit.
func (x *Index) logError(err error) error {
	damaged := func(what string) error { return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err) }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, journal.ErrNotFound):
		return damaged("its log is missing (directory " + LogDir + "); put it back")
	case errors.Is(err, journal.ErrVersion):
		return fmt.Errorf("%w: %w", errBadVersion, err)
	case errors.Is(err, journal.ErrRemoved):
		return damaged("the file is older than its log, as if an old copy had been put back")
	case errors.Is(err, journal.ErrBeyondEnd):
		return damaged("the file is newer than its log, as if an old copy of the log had been put back")
	case errors.Is(err, journal.ErrMissing), errors.Is(err, journal.ErrPosition), errors.Is(err, journal.ErrCorrupt), errors.Is(err, errOtherLog):
		return damaged("directory " + LogDir)
	case errors.Is(err, journal.ErrNoSpace) && !errors.Is(err, journal.ErrFailed):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// addRows puts the rows of a transaction into its group of the log, behind the payloads to which they refer. It takes as many records as
// the rows need.
func (x *Index) addRows(t *tx) error {
	body := appendRows(x.encoded[:0], t.over, t.rows())
	if cap(body) <= keepEncoded {
		x.encoded = body
	}
	for len(body) > 0 {
		n := min(len(body), maxBody, int(x.log.MaxRecord()))
		if err := t.group.Record(journal.KindRows, body[:n]); err != nil {
			return &unchanged{x.logError(err)}
		}
		body = body[n:]
	}
	return nil
}

// appendGroup makes a group durable in the log, and returns where the next one begins.
func (x *Index) appendGroup(g *journal.Group) (end journal.Position, err error) {
	if err := x.log.Append(context.Background(), g); err != nil {
		if err = x.logError(err); !errors.Is(err, journal.ErrFailed) { // of what comes before the first write, or taken back
			err = &unchanged{err}
		}
		return 0, err
	}
	return g.End(), nil
}

// maxBody is how many bytes of rows one record has at most.
const maxBody = 8 << 20

// keepEncoded is how much memory for encoded rows is kept from one group to the next, in bytes.
const keepEncoded = 1 << 20

// The body of a group in the log; doc.go has the layout.
const (
	rowsV1     = 1
	rowDeleted = 0x80
)

func appendRows(b []byte, over *overlay, rows []rowID) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, rowsV1), uint32(len(rows)))
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
		return fmt.Errorf("%w: rows of version %d in the log; a newer program may know it", errBadVersion, version)
	}
	for range f.u32() {
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
	if !f.done() {
		return damaged("log")
	}
	return nil
}
