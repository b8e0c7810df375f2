package journal

import (
	"errors"
	"fmt"
	"io/fs"
)

// Exists tells whether there is a log in o.Dir.
func Exists(o Options) (bool, error) {
	if err := o.ensure("look for log"); err != nil {
		return false, err
	}
	firsts, _, err := listSegments(o)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(firsts) > 0, err
}

// Extend makes a new segment behind all that there are, whatever is in them, and returns where it begins: from there on a replay
// finds nothing, and groups can be appended, also where the log before it is damaged. Payloads in the others can be read on. It is for
// an index that was made from something else than the records, or one that has another writer from now on: a new epoch begins with the
// segment. Nobody may have the log open. When err is nil the segment is on stable storage.
// Errors: ErrNotFound, ErrVersion, ErrNoSpace, else I/O; after these Extend may be called again.
func Extend(o Options) (Position, error) {
	if err := o.ensure("extend log"); err != nil {
		return 0, err
	}
	firsts, _, err := listSegments(o)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if len(firsts) == 0 {
		return 0, ErrNotFound
	}
	h, err := following(o, firsts[len(firsts)-1])
	if err != nil {
		return 0, err
	}
	h.size, h.created = o.SegmentSize, o.Now().UnixNano()
	if h.salt, err = randomNumber(o.Rand); err != nil {
		return 0, err
	}
	file, err := makeSegment(o, h)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return 0, createError("extend log", err)
	}
	return h.first, nil
}

// following is the header of the segment that follows the last one, in the next epoch. Behind one whose header is lost the log
// has another identity, whose first epoch is 0, and begins where the longest segment would have ended.
func following(o Options, last Position) (h segmentHeader, err error) {
	var f files
	f.init(o)
	defer f.closeAll()
	in, err := f.load(last)
	switch {
	case err == nil:
		h = segmentHeader{first: in.end(), identity: in.identity, epoch: in.epoch + 1, previous: in.salt}
		return h, in.file.Close()
	case errors.Is(err, ErrCorrupt):
		h.first = last + maxSegmentSize
		h.identity, err = randomNumber(o.Rand)
		return h, err
	}
	return h, fmt.Errorf("extend log: %w", err)
}
