package index

// A bucketID is one of the buckets of the file. The numbers are part of the format of the log (see doc.go).
type bucketID uint8

// The buckets; doc.go says what they hold.
const (
	bucketMeta bucketID = 1 + iota
	bucketItems
	bucketRefs
	bucketTrash
	bucketCounters
	bucketLocks
	bucketJobs
	bucketWriters

	// Since format 2.
	bucketPlans
	bucketSources
	bucketKept
	bucketKeptKeys

	// Since format 3.
	bucketSegments
	bucketMoved
	bucketMovedTo
	bucketHistory

	bucketEnd // one more than the last
)

var bucketNames = [bucketEnd]string{
	bucketMeta: "meta", bucketItems: "items", bucketRefs: "refs", bucketTrash: "trash", bucketCounters: "counters",
	bucketLocks: "locks", bucketJobs: "jobs", bucketWriters: "writers",
	bucketPlans: "plans", bucketSources: "sources", bucketKept: "kept", bucketKeptKeys: "keptkeys",
	bucketSegments: "segments", bucketMoved: "moved", bucketMovedTo: "movedto",
	bucketHistory: "history",
}

func (id bucketID) String() string { return bucketNames[id] }

// bucketsOf says which buckets a file of a format has: those from bucketMeta up to the one before end.
func bucketsOf(format uint32) (end bucketID) {
	switch format {
	case formatV1:
		return bucketPlans
	case formatV2:
		return bucketSegments
	}
	return bucketEnd
}
