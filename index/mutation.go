package index

import (
	"time"

	"packhouse/journal"
)

// Put makes Key an item. Missing parent directories are made. A directory at
// Key is ErrIsDir, an item at a parent of Key is ErrNotDir. A Ref that an item
// or a trash row has already, be it the item at Key, is refused.
//
// Item.Created of a new key is Now unless it is set; an overwrite keeps that of
// the item replaced. Of Item.Flags, FlagExempt is that of Exempt. The bytes of a source of an open plan, or of an item
// that came back, stored again, count as little as before: the new item has FlagReturned.
type Put struct {
	Key  string
	Item Item
	// Payload, if not nil, is the bytes of the item, at most MaxPayload: they are stored in the log, with the rows, and
	// Item.Ref, which must be empty, becomes where they lie (see Result.Moved). Only where HasLog. They must not be modified before Apply returns.
	Payload []byte
	// Place, for an index that is made anew, is where the payload of Item.Ref lies, in the log; zero: where that says.
	Place    journal.Place
	IfAbsent bool   // ErrExists when an item is there
	IfRef    string // if not empty: ErrConflict unless the item there has this Ref
	// Limit refuses with ErrQuota when Bytes-Exempt after this mutation would
	// exceed it, unless the group has taken away at least what it added until then:
	// an overwrite that makes an item no larger is not refused. Negative: no limit.
	Limit int64
	// Commit, if not nil, is the class that the item belongs to: its items are admitted beyond Limit up to CommitBound.
	// A Put that leaves usage within Limit raises the mark of the class to what its items then hold. Where there
	// is no mark it begins with what they held before.
	Commit *CommitClass
	// Exempt marks a small coordination object (locks, sessions): its bytes are
	// counted in Counters.Exempt and Limit is not tested. The flag is stored with the item.
	Exempt bool
	// Uncounted gives the item FlagReturned: it is made of a pack that does not count either. Not with Exempt.
	Uncounted bool
	// TrashUntil is the expiry of the trash row of a replaced item; exempt ones expire at once.
	TrashUntil time.Time
	Now        time.Time // Item.Modified of the new, removal time of the replaced
	// Backup records Now as the last backup of Item.Writer and of the repository.
	Backup bool
}

// Delete removes the item at Key into the trash. Missing: ErrNotFound; a directory: ErrIsDir.
type Delete struct {
	Key string
	// IgnoreMissing makes a missing item no error: Result.Previous is nil.
	IgnoreMissing bool
	IfRef         string // if not empty: ErrConflict unless the item has this Ref
	// Keep removes the item to the kept ones instead of the trash, until TrashUntil: it is no item any more, and
	// counts as none, but Kept finds it under its key. Without Keep an item that is kept under Key is released.
	Keep bool
	By   string // with Keep: who calls the item unused; at most 512 bytes
	// IfBefore, if not zero, leaves an item alone that was stored or found (Item.Modified, Item.Found) then or later:
	// Result.Previous is nil.
	IfBefore   time.Time
	TrashUntil time.Time
	Now        time.Time
}

// Move renames the item From to To, replacing an item there (into the trash).
// Missing parents of To are made. From missing: ErrNotFound; From or To a
// directory: ErrIsDir; an item at a parent of To: ErrNotDir. From == To changes
// nothing and does not mind IfAbsent. The item keeps its times and its flags, FlagExempt
// only under Exempt.
type Move struct {
	From, To string
	IfAbsent bool // ErrExists when To is an item
	// Exempt leaves an item exempt that a Put made so. It makes no other item exempt.
	Exempt bool
	// Limit is as in Put, for an item that was exempt and no longer is, also if it replaces a larger one, and for one that leaves the class
	// Commit (nil: none), which may be beyond the limit. The others add nothing to what
	// counts, and can be moved while the limit is exceeded.
	Limit      int64
	Commit     *CommitClass
	TrashUntil time.Time
	Now        time.Time
}

// Require changes nothing: it fails with ErrNotFound unless an item is at Key,
// and with ErrConflict unless that item has Ref. In a group it guards the others.
type Require struct {
	Key, Ref string
}

// MakeDir makes a directory and its missing parents; an existing one, as the root
// "" always is, is fine. An item at Key or at a parent of it is ErrNotDir.
type MakeDir struct {
	Key string
	Now time.Time
}

// RemoveDir removes an empty directory: ErrNotFound, ErrNotDir (an item), ErrNotEmpty.
// The root cannot be removed: ErrInvalid.
type RemoveDir struct{ Key string }

// Restore takes a row out of the trash and puts its item back under Key (empty: its
// old key), making missing parents. ErrNotFound when the row is gone or has expired, ErrExists
// when an item is at the key, ErrIsDir and ErrNotDir as in Put. The item keeps its times and its flags,
// FlagExempt only under Exempt.
type Restore struct {
	ID     string
	Key    string
	Exempt bool  // as in Move
	Limit  int64 // as in Put, also if the group takes something away
	Now    time.Time
}

// PurgeTrash forgets trash rows whose blobs are gone. Unknown IDs are ignored.
type PurgeTrash struct{ IDs []string }

// OpenPlan makes the items of Sources the sources of a new open plan, and takes them from the plans whose sources
// they were; a plan without sources is closed, this one too. A missing source is ErrNotFound. With a limit it is
// ErrQuota when the sources of open plans and what has returned, with the new sources, would be more than Limit and more
// than what the oldest open plan found when it began (without one: what is there now).
//
// Delete, an overwrite, and whatever else takes an item from its key take it from its plan; so does Found. A Move does not.
type OpenPlan struct {
	Plan    Plan // without ID, Live, Sources and Bytes
	Sources []string
	Limit   int64 // negative: none
}

// ProvePlan removes the sources of an open plan to the kept ones, until Until, and so closes the plan. An unknown
// plan has none.
type ProvePlan struct {
	ID    uint64
	Until time.Time
	Now   time.Time
}

// EndPlans closes all open plans, whose sources become ordinary items, and releases all that is kept.
type EndPlans struct{ Now time.Time }

// ReturnKept makes what is kept under Key an item again, with FlagReturned. ErrNotFound when nothing is;
// ErrNotDir and ErrIsDir as in Put.
type ReturnKept struct {
	Key string
	Now time.Time
}

// ReturnSince is ReturnKept of all that was removed at Since or later: by plans that were proven, and as unused by others
// than Except. What cannot return, for its key is a directory by now, stays kept.
type ReturnSince struct {
	Since  time.Time
	Except string // as Delete.By
	Now    time.Time
}

// ReleaseKept moves what is kept to the trash, where it expires at once: the oldest first, all that expire at Now or
// before, and then as long as less than Bytes are released; at most Most items.
type ReleaseKept struct {
	Bytes int64
	Most  int
	Now   time.Time
}

// Found sets Item.Found of the item at Key, and takes it from the plan whose source it is, with FlagReturned: somebody is
// about to refer to it. ErrNotFound when there is none, ErrConflict when it has another Ref.
type Found struct {
	Key, Ref string
	Now      time.Time
}

// SetFlags sets and clears flags of the item at Key, never FlagExempt and FlagReturned, if an item with
// Ref is still there (else ErrConflict). No limit refuses it.
type SetFlags struct {
	Key, Ref   string
	Set, Clear Flags
}

// Relocate gives the payload of Ref, in the log, another place: Payload, the same bytes, is stored again, and found under the same Ref.
// ErrConflict when nothing has that ref any more. Nothing else changes.
//
// Without Payload, for an index that is made anew, Place is where it lies already.
type Relocate struct {
	Ref     string
	Payload []byte
	Place   journal.Place
}

// SetMeta stores a small named value (limits, dialect, …), at most 1 MiB; nil deletes it.
type SetMeta struct {
	Name  string
	Value []byte
}

// AcquireLock takes or renews a TTL lock: ErrLocked, with Result.Lock, when
// another holder has it and Now is not past its TTL. The same holder always
// gets it, with new Data and TTL; Since stays while it is held. ErrQuota when the index
// has 1,000 locks that have not ended. Times have microsecond precision.
type AcquireLock struct {
	ID, Holder string
	Data       []byte
	TTL        time.Duration
	Now        time.Time
}

// ReleaseLock frees a lock, also an expired one; ErrNotFound when there is none.
// Holder, if not empty, must match: else ErrLocked.
type ReleaseLock struct{ ID, Holder string }

// ExpireLocks removes the locks whose TTL ended before Now. The TTL of one acquired well after Now, when the
// clock was wrong, begins anew: else it would be held until that time comes.
type ExpireLocks struct{ Now time.Time }

// PutJob stores a job row, at most 64 MiB; IfAbsent: ErrExists when there is one; IfRecord: ErrConflict when its record is not
// that, or there is none (nil: any).
type PutJob struct {
	Job      Job
	IfAbsent bool
	IfRecord []byte
}

// DeleteJob removes a job row; a missing one is fine.
type DeleteJob struct{ ID string }

func (Put) mutation()         {}
func (Delete) mutation()      {}
func (Move) mutation()        {}
func (Require) mutation()     {}
func (MakeDir) mutation()     {}
func (RemoveDir) mutation()   {}
func (Restore) mutation()     {}
func (PurgeTrash) mutation()  {}
func (SetFlags) mutation()    {}
func (SetMeta) mutation()     {}
func (AcquireLock) mutation() {}
func (ReleaseLock) mutation() {}
func (ExpireLocks) mutation() {}
func (PutJob) mutation()      {}
func (DeleteJob) mutation()   {}

func (OpenPlan) mutation()    {}
func (ProvePlan) mutation()   {}
func (EndPlans) mutation()    {}
func (ReturnKept) mutation()  {}
func (ReturnSince) mutation() {}
func (ReleaseKept) mutation() {}
func (Found) mutation()       {}

func (Relocate) mutation() {}
