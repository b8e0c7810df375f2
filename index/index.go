package index

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"packhouse/blobstore/vfs"
)

// The errors a caller may test for, with errors.Is.
var (
	ErrNotFound = errors.New("not found")                  // no item (or directory, lock, job, trash row) of that name
	ErrExists   = errors.New("already exists")             // a precondition "must not exist" failed
	ErrIsDir    = errors.New("is a directory")             // an item operation met a directory
	ErrNotDir   = errors.New("not a directory")            // a parent of the key is an item
	ErrNotEmpty = errors.New("directory not empty")        // RemoveDir met children
	ErrConflict = errors.New("changed by another request") // an IfRef precondition failed
	ErrLocked   = errors.New("locked")                     // a TTL lock is held by somebody else
	ErrQuota    = errors.New("quota exceeded")             // the group would lift usage above the limit
	ErrTrash    = fmt.Errorf("trash: %w", ErrQuota)        // an ErrQuota: the group would put more into the trash than it may hold
	ErrCharges  = fmt.Errorf("charges: %w", ErrQuota)      // an ErrQuota: the group would make more items and directories than there may be
	ErrHistory  = fmt.Errorf("history: %w", ErrQuota)      // an ErrQuota: the group would record more changes than there may be
	ErrCorrupt  = errors.New("index is damaged")           // a record does not decode
	ErrFailed   = errors.New("index is read-only after a write error")
	ErrReadOnly = errors.New("index was opened for reading only")
	ErrMoved    = errors.New("index file was moved, removed or replaced") // open it again
	ErrNoSpace  = errors.New("no space for the index")                    // nothing was changed; may be tried again
	ErrClosed   = errors.New("index is closed")
	ErrInvalid  = errors.New("invalid argument") // malformed key, name or value; a fault of the caller
)

// ErrManyDirs is an ErrIsDir: more directories would have to give way to an item than one group removes. ClearDirs removes some before.
var ErrManyDirs = fmt.Errorf("%w with many others below it", ErrIsDir)

// Errors that no caller answers in a way of its own: the texts say what is wrong.
var (
	errBadVersion = errors.New("unknown format version")        // the file is of a format this program does not know
	errRefUsed    = errors.New("blob reference already in use") // one blob has one item or one trash row
)

// Flags of an item.
type Flags uint8

const (
	// FlagDamaged marks an item whose bytes no longer match its BLAKE3; set by the scrubber.
	FlagDamaged Flags = 1 << 0
	// FlagExempt marks an item that Counters.Exempt counts. Put.Exempt alone
	// sets it; it stays with the item through moves, the trash and SetFlags.
	FlagExempt Flags = 1 << 1
	// FlagReturned marks an item that limits do not count although it is no source of an open plan: it was kept after a compaction and
	// came back, or it was such a source and was stored or found again. Callers cannot set it.
	FlagReturned Flags = 1 << 2
	// FlagMissing marks an item whose blob is missing. Its row stays, so that an administrator sees it and the same bytes can repair it,
	// but limits do not count it. An item that goes to the trash or is kept loses the flag.
	FlagMissing Flags = 1 << 3
	// FlagUnverified marks an item whose BLAKE3 is not known yet: a file that was made by another program and taken in as it was. Its
	// Item.BLAKE3 means nothing until SetFlags with a BLAKE3 clears the flag.
	FlagUnverified Flags = 1 << 4
)

// ownFlags are those that SetFlags leaves alone.
const ownFlags = FlagExempt | FlagReturned

// Item is what the index stores about one key, apart from the key.
type Item struct {
	Size     int64     // bytes
	Created  time.Time // when the item first appeared; kept by overwrites and moves; millisecond precision
	Modified time.Time // when these bytes were committed; millisecond precision
	Ref      string    // where the blob lies; opaque here, 1 to 64 bytes
	BLAKE3   [32]byte  // of the whole blob; not known while FlagUnverified is set
	// Algorithm and Sum are the digest the client announced and the server
	// verified when the blob was uploaded; both empty when there was none.
	Algorithm string // at most 32 bytes, a name of package digest
	Sum       []byte // at most 64 bytes
	Writer    string // principal that wrote it; at most 128 bytes
	Flags     Flags
	// Plan is the open plan whose source the item is, see OpenPlan; 0: of none. OpenPlan alone sets it.
	Plan uint64
	// Found is when somebody last found the item there who would else have stored it: a plan whose output it is, or a client
	// with the same bytes; zero: never. Millisecond precision. The mutation Found alone sets it.
	Found time.Time
}

// Counted is how many of the item's bytes limits count: 0 for an exempt item, for a source of an open plan (whose bytes the outputs
// replace), for one that came back after a compaction, and for one whose blob is missing.
func (i Item) Counted() int64 {
	if i.Flags&(FlagExempt|FlagReturned|FlagMissing) != 0 || i.Plan != 0 {
		return 0
	}
	return i.Size
}

// uncounted tells whether the item would count but for an open plan whose source it is, or because it came back.
func (i *Item) uncounted() bool {
	return i.Flags&FlagExempt == 0 && i.Size > 0 && (i.Plan != 0 || i.Flags&FlagReturned != 0)
}

// Entry is one row of a listing or the answer of Get: a directory or an item.
type Entry struct {
	Key  string // full key; never a trailing slash
	Dir  bool   // a directory: of Item only Created is set
	Item Item
}

// Counters are the totals of a repository, exact with every commit.
type Counters struct {
	Items      int64 // live items
	Bytes      int64 // their sizes
	Exempt     int64 // bytes of items written with Put.Exempt, part of Bytes; quota does not count them
	TrashItems int64
	TrashBytes int64

	Plans         int64 // open plans, see OpenPlan
	OpenBytes     int64 // bytes of their sources, part of Bytes; a limit does not count them
	ReturnedBytes int64 // bytes of items with FlagReturned, part of Bytes; a limit does not count them
	KeptItems     int64 // kept after a compaction, see Delete.Keep
	KeptBytes     int64

	MissingItems int64 // items with FlagMissing
	MissingBytes int64 // their sizes, part of Bytes and of none of the above; a limit does not count them
	DamagedItems int64 // items with FlagDamaged and without FlagMissing

	UnverifiedItems int64 // items with FlagUnverified and without FlagMissing
	UnverifiedBytes int64 // their sizes, part of Bytes
	Changes         int64 // rows of the history, see Change
}

// Counted is the number of bytes that limits count.
func (c Counters) Counted() int64 {
	return c.Bytes - c.Exempt - c.OpenBytes - c.ReturnedBytes - c.MissingBytes
}

// Removed is an item in the trash.
type Removed struct {
	ID      string // opaque, for Restore and PurgeTrash; sorts by expiry
	Key     string // the key it had
	Item    Item
	At      time.Time // when it was removed
	Expires time.Time // when its bytes may go
}

// Kept is an item that a compaction removed and that can still be read under its key.
type Kept struct {
	Removed
	Proven bool   // it was a source of a plan that was proven; false: a client called it unused
	By     string // that client, as Delete.By
}

// Plan is an open plan: a compaction whose outputs and sources are both items, because it is not known yet to which of
// them the client's index will refer.
type Plan struct {
	ID        uint64 // from 1; a larger one is newer
	Principal string // who sent it; at most 128 bytes
	Address   string // of its client; at most 128 bytes
	Lock      string // names the lock that was there, empty for none; at most 2048 bytes
	Job       string // ID of its job; at most 1024 bytes
	At        time.Time
	Live      int64 // what a limit counted when it began, in bytes
	Sources   int64 // items that are its sources still
	Bytes     int64 // their sizes
}

// Lock is a TTL lock. It is held while now - Acquired <= TTL.
type Lock struct {
	ID       string
	Holder   string    // opaque to the index: compared byte for byte
	Data     []byte    // what the dialect wants to remember, at most 4 KiB
	Acquired time.Time // of the last acquire or renewal
	Since    time.Time // of the first acquire by this holder
	TTL      time.Duration
}

// Job is the durable record of a compaction, scrub, …; Record is opaque here.
type Job struct {
	ID     string
	Record []byte
}

// Freshness is when a writer last completed a backup.
type Freshness struct {
	Writer string
	At     time.Time
}

// Options of Open. The zero value of each field works. The hooks let a test
// fail a commit before or after it took effect; both leave the index read-only.
type Options struct {
	// ReadOnly opens a file without a write to the disk, as it is, whatever its format: Apply is then ErrReadOnly. Any
	// number of processes may have it open so, and none that changes it.
	ReadOnly bool
	Use      Use
	// FS is the file system of the log, and for what is done with whole files: make, link, rename, remove, sync. nil means the operating
	// system's. bbolt reads and writes its file by itself.
	FS vfs.FS
	// SegmentSize is that of new segments of the log, in bytes; 0: 16 MiB.
	SegmentSize int64

	BeforeCommit func() error // called before each commit: on error nothing was changed
	AfterCommit  func() error // called after each commit: an error is reported although the change is durable
	BeforeWrite  func() error // called before each commit of the file, by a checkpoint: on error the file was not changed
	AfterWrite   func() error // called after each commit of the file, by a checkpoint: an error is reported although it is durable
	// Database is called with each database of bbolt that is opened for writing, before rows are written to it: its writes can be made to
	// fail there (vfstest.Bolt).
	Database func(*bolt.DB) error
}

// Use is what an index is opened for.
type Use int

const (
	// Serve is the ordinary use: groups go to the log first.
	Serve Use = iota
	// Rebuild is for a file that is being made from what else there is of a repository. Its log, if it had one, is read by ReadLog alone, and from
	// now on it has none: each group goes into the file at once. When it is next opened to serve, it gets a new log, which goes on
	// behind the one that lies in its directory.
	Rebuild
	// Hold is for the lock of the file, and for looks at it: what only the log has is not seen, and nothing can be changed.
	Hold
)

// A Mutation is one change, a value with its preconditions inside. The types
// that implement it are those of mutation.go; no other package can add one.
type Mutation interface{ mutation() }

// Result is what one mutation found: the item it replaced or removed, if any.
type Result struct {
	Previous *Item  // Put, Delete, Move: what stood at the key (Move: at To) before; nil if nothing
	TrashID  string // its trash row, empty when there is none
	Moved    *Item  // Put, Move, Restore, ReturnKept: the item as it is at its new key
	Begins   int64  // Move: bytes of Moved that count against a limit and did not before
	// Delta is by how many bytes OpenPlan, EndPlans and SetFlags change what a limit counts.
	Delta int64
	Plan  uint64 // OpenPlan: its ID, 0 when it has no sources
	Items int64  // ProvePlan, ReturnSince, ReleaseKept, EndPlans: items (sources or kept ones) that it moved; ForgetChanges, Redate, ClearDirs: rows
	Bytes int64  // their sizes
	Lock  *Lock  // AcquireLock, ReleaseLock: the holder, also with ErrLocked
}

// GroupError says which mutation of a group failed. The group changed nothing.
type GroupError struct {
	Position int    // in the arguments of Apply, from 0
	Result   Result // what the failing mutation found, e.g. the holder of a lock
	Err      error
}

func (e *GroupError) Error() string { return e.Err.Error() }
func (e *GroupError) Unwrap() error { return e.Err }
