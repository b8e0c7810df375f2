package layout

import (
	"strings"
	"time"
)

const (
	snapshotSuffix = ".index.zst"
	// SnapshotPart is behind the name of a snapshot while it is written.
	SnapshotPart = ".new"
	snapshotTime = "20060102T150405.000Z" // UTC: sorts by time
)

// SnapshotName is the name of the copy of the index that began at that time, in SnapshotDir. It has whole milliseconds.
func SnapshotName(at time.Time) string { return at.UTC().Format(snapshotTime) + snapshotSuffix }

// SnapshotTime is when the snapshot of that name began; ok is false for what is none, or not whole.
func SnapshotTime(name string) (at time.Time, ok bool) {
	stamp, ok := strings.CutSuffix(name, snapshotSuffix)
	if !ok {
		return at, false
	}
	at, err := time.Parse(snapshotTime, stamp)
	return at, err == nil
}

// IsSnapshotPart tells whether a name is that of a snapshot that is, or was, being written.
func IsSnapshotPart(name string) bool { return strings.HasSuffix(name, snapshotSuffix+SnapshotPart) }
