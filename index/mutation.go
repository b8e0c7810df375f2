package index

import (
	"time"

	"packhouse/journal"
)

// Put stores an item at Key and creates missing parent directories. A directory at Key is removed if no item lies below it, with
// the directories there, as they may be of a client that only made the name unusable for others; else it is ErrIsDir. An item at
// a parent of Key is ErrNotDir. A Ref that an item (also the one at Key) or a trash row already has is ErrRefUsed.
//
// Item.Created of a new key is Now unless it is set; an overwrite keeps that of the replaced item. In Item.Flags, FlagExempt is set
// from Exempt. If the item at Key is a source of an open plan, or came back, the new item has FlagReturned, so that its bytes are
// still not counted.
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
	// MaxCharges refuses with ErrCharges, which is an ErrQuota, when there would be more charges (see ChargeSize) and the
	// group has added some. 0: any number; negative: no more. Exempt items, and those of Commit up to CommitBound, are not
	// refused, unless they need new directories below others.
	MaxCharges int64
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
	TrashBound *TrashBound // nil: none
	Now        time.Time   // Item.Modified of the new, removal time of the replaced
	// Backup records Now as the last backup of Item.Writer and of the repository.
	Backup bool
	Cause  *Cause
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
	TrashBound *TrashBound // nil: none. Not with Keep
	Now        time.Time
	Cause      *Cause
}

// Move renames the item From to To, replacing an item there (into the trash).
// Missing parents of To are made. From missing: ErrNotFound; From a
// directory: ErrIsDir; a directory at To: as in Put; an item at a parent of To: ErrNotDir. From == To changes
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
	MaxCharges int64 // as in Put, for directories and for an item that was exempt and no longer is
	Commit     *CommitClass
	TrashUntil time.Time
	TrashBound *TrashBound // nil: none
	Now        time.Time
	Cause      *Cause
}

// TrashBound is what the trash may hold with the item that a mutation adds to it. Beyond that the mutation is ErrTrash,
// which is an ErrQuota, or with Spare it is carried out, and the item expires at once if it was stored at Spare or later; with Guarded
// it is ErrTrash then. It does not apply to an item that expires at once anyway.
type TrashBound struct {
	Bytes   int64
	Items   int64     // 0: any number
	Spare   time.Time // zero: refuse
	Guarded bool
}

// Require changes nothing: it fails with ErrNotFound unless there is an item at Key, and with ErrConflict unless that item has Ref. It
// is a precondition for the other mutations of its group.
type Require struct {
	Key, Ref string
}

// MakeDir makes a directory and its missing parents; an existing one, as the root
// "" always is, is fine. An item at Key or at a parent of it is ErrNotDir.
type MakeDir struct {
	Key        string
	MaxCharges int64 // as in Put
	Now        time.Time
}

// RemoveDir removes an empty directory: ErrNotFound, ErrNotDir (an item), ErrNotEmpty.
// The root cannot be removed: ErrInvalid.
type RemoveDir struct{ Key string }

// ClearDirs removes directories at Key and below, as many as one group may have: ErrIsDir if an item is met. They are what ErrManyDirs
// is about; that no item lies below Key at all is for the caller to find out before.
type ClearDirs struct{ Key string }

// Restore moves an item from the trash back to Key (empty: its old key) and creates missing parents. It is named by ID; or, with a Key, by
// Ref, also if it has expired, and then it may be what is kept under Key, too. ErrNotFound if the row no longer exists or has expired, ErrExists if there is an item at the key, ErrIsDir and ErrNotDir as in Put. The item keeps its times and
// its flags, FlagExempt only with Exempt.
type Restore struct {
	ID     string
	Held   bool // also if it has expired: its bytes are there still
	Ref    string
	Key    string
	Exempt bool  // as in Move
	Limit  int64 // as in Put, also if the group takes something away
	// MaxCharges is as in Put.
	MaxCharges int64
	Now        time.Time
	TrashUntil time.Time // of what is kept under Key; before Now: at once
	Cause      *Cause
}

// PurgeTrash deletes trash rows whose blobs have been removed. Unknown IDs are ignored.
type PurgeTrash struct{ IDs []string }

// Redate is for a clock that was wrong: rows of the trash and kept rows that were removed after Now, as they say, and expire
// after Beyond, become rows that are removed at Now and expire as long after that as they would have; at most Most of them.
type Redate struct {
	Now    time.Time
	Beyond time.Time
	Most   int
}

// OpenPlan makes the items of Sources the sources of a new open plan, and removes them from the plans whose sources they were; a plan
// without sources is closed, also this one. A missing source is ErrNotFound. With a limit it is ErrQuota if the sources of open
// plans and the returned items, including the new sources, would be more than Limit and more than what the oldest open
// plan found when it began (if there is none: what exists now).
//
// Delete, an overwrite, and any other change that takes an item from its key remove it from its plan; so does Found. A Move does not.
type OpenPlan struct {
	Plan    Plan // without ID, Live, Sources and Bytes
	Sources []string
	Limit   int64 // negative: none
}

// ProvePlan turns the sources of an open plan into kept rows, until Until, and so closes the plan. An unknown plan has no sources.
type ProvePlan struct {
	ID    uint64
	Until time.Time
	Now   time.Time
	Cause *Cause
}

// EndPlans closes all open plans, whose sources become ordinary items, and releases everything that is kept, unless LeaveKept.
type EndPlans struct {
	Now       time.Time
	LeaveKept bool
}

// ReturnKept makes what is kept under Key an item again, with FlagReturned. ErrNotFound if nothing is kept under it; ErrNotDir and
// ErrIsDir as in Put.
type ReturnKept struct {
	Key   string
	Now   time.Time
	Cause *Cause
}

// ReturnSince is ReturnKept for everything that was removed at Since or later: by plans that were proven, and as unused by clients
// other than Except. A row whose key is a directory now cannot return and stays kept.
type ReturnSince struct {
	Since  time.Time
	Except string // as Delete.By
	Now    time.Time
	Cause  *Cause
}

// ReleaseKept moves kept rows to the trash, where they expire Grace after they were removed, at Now or later, the oldest first: all that
// expire at Now or before, and then more until Bytes are released; at most Most items.
type ReleaseKept struct {
	Bytes int64
	Most  int
	Now   time.Time
	Grace time.Duration
}

// Found sets Item.Found of the item at Key, and removes it from the plan whose source it is, with FlagReturned, because a client is
// about to refer to it. ErrNotFound if there is none, ErrConflict if it has another Ref.
type Found struct {
	Key, Ref string
	Now      time.Time
}

// SetFlags sets and clears flags of the item at Key, except FlagExempt and FlagReturned, if it still has Ref (else ErrConflict). No
// limit refuses it. It is no change of the item's bytes, and leaves no row in the history.
type SetFlags struct {
	Key, Ref   string
	Set, Clear Flags
	// BLAKE3, if not nil, becomes that of an item whose BLAKE3 is not known (FlagUnverified, which is to be cleared with
	// it): ErrConflict for any other.
	BLAKE3 *[32]byte
}

// ForgetChanges removes the rows of the history that are older than Before, at most Most of them, the oldest first. A
// row of a time after Now, when the clock was wrong, is as old as the one that follows it.
type ForgetChanges struct {
	Before time.Time
	Now    time.Time
	Most   int
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

// RecordBackup records when Writer last completed a backup, as Put.Backup does; for an index that is made anew. The last backup of the repository
// is the latest of all.
type RecordBackup struct {
	Writer string // at most 128 bytes
	At     time.Time
}

// SetMeta stores a small named value (limits, dialect, …), at most 1 MiB; nil deletes it.
type SetMeta struct {
	Name  string
	Value []byte
}

// TakeBackBackup undoes the record that Writer completed a backup at At, as if it had not: Writer's last one becomes that of Before, and the
// repository's that of All; zero times: none. A record that is not of At any more stays.
type TakeBackBackup struct {
	Writer          string
	At, Before, All time.Time
}

// AcquireLock takes or renews a TTL lock: ErrLocked, with Result.Lock, if another holder has it and Now is not past its TTL. The same
// holder always gets it, with new Data and TTL; Since does not change while it is held. ErrQuota if the index has 1,000 locks that
// have not expired. Times have microsecond precision.
type AcquireLock struct {
	ID, Holder string
	Data       []byte
	TTL        time.Duration
	Now        time.Time
}

// ReleaseLock releases a lock, also an expired one; ErrNotFound if there is none. Holder, if not empty, must match, else ErrLocked.
type ReleaseLock struct{ ID, Holder string }

// ExpireLocks removes the locks whose TTL ended before Now. A lock that was acquired well after Now, when the clock was wrong, gets a
// new TTL from Now, because otherwise it would be held until that time.
type ExpireLocks struct{ Now time.Time }

// PutJob stores a job row, at most 64 MiB; IfAbsent: ErrExists when there is one; IfRecord: ErrConflict when its record is not
// that, or there is none (nil: any).
type PutJob struct {
	Job      Job
	IfAbsent bool
	IfRecord []byte
}

// DeleteJob deletes a job row. It is no error if it is missing.
type DeleteJob struct{ ID string }

func (Put) mutation()            {}
func (Delete) mutation()         {}
func (Move) mutation()           {}
func (Require) mutation()        {}
func (MakeDir) mutation()        {}
func (RemoveDir) mutation()      {}
func (ClearDirs) mutation()      {}
func (Restore) mutation()        {}
func (PurgeTrash) mutation()     {}
func (SetFlags) mutation()       {}
func (SetMeta) mutation()        {}
func (TakeBackBackup) mutation() {}
func (RecordBackup) mutation()   {}
func (AcquireLock) mutation()    {}
func (ReleaseLock) mutation()    {}
func (ExpireLocks) mutation()    {}
func (PutJob) mutation()         {}
func (DeleteJob) mutation()      {}

func (OpenPlan) mutation()    {}
func (ProvePlan) mutation()   {}
func (EndPlans) mutation()    {}
func (ReturnKept) mutation()  {}
func (ReturnSince) mutation() {}
func (ReleaseKept) mutation() {}
func (Found) mutation()       {}

func (ForgetChanges) mutation() {}
func (Redate) mutation()        {}

func (Relocate) mutation() {}
