package repo

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

// The errors a caller may test for, with errors.Is. Each is one that some dialect answers otherwise than all others, by status, text or
// kind; what needs no answer of its own is one of these with a message (Errorf). Each dialect maps every one of All.
var (
	ErrNoRepository       = errors.New("no such repository")
	ErrNotFound           = index.ErrNotFound                                                              // the repository has no such item
	ErrExists             = index.ErrExists                                                                // create refused, nothing changed
	ErrIsDir              = index.ErrIsDir                                                                 // an item operation met a directory
	ErrNotDir             = index.ErrNotDir                                                                // an item stands where a directory is needed
	ErrNotEmpty           = index.ErrNotEmpty                                                              // the directory has entries
	ErrConflict           = index.ErrConflict                                                              // the item changed since it was looked at
	ErrLocked             = index.ErrLocked                                                                // a TTL lock is held by somebody else
	ErrQuota              = index.ErrQuota                                                                 // nothing was kept; see QuotaError
	ErrDenied             = errors.New("denied by policy")                                                 // see DeniedError
	ErrDigest             = errors.New("digest mismatch")                                                  // the body is not what was announced; see DigestError
	ErrIncomplete         = errors.New("body ended early")                                                 // fewer bytes than announced, or the client went away
	ErrInvalid            = keys.ErrInvalid                                                                // malformed key, name, plan or option
	ErrTooLarge           = errors.New("too large")                                                        // more than one item may hold
	ErrRange              = blobstore.ErrRange                                                             // offset or length beyond the end
	ErrAlgorithm          = digest.ErrUnsupported                                                          // a hash nobody knows
	ErrCorrupt            = blobstore.ErrCorrupt                                                           // our stored bytes are damaged
	ErrDamaged            = errors.New("item is damaged")                                                  // an ErrCorrupt: the bytes of one item, see Repository.Salvage
	ErrNewer              = blobstore.ErrNewer                                                             // stored by a newer version, so nothing is known of its bytes
	ErrLoss               = errors.New("files are missing")                                                // more than is believed to be lost; see LossError
	ErrReadOnly           = errors.New("repository is read-only after a disk error")                       // see Repository.Health
	ErrReadOnlyDisk error = readOnlyDiskError{}                                                            // reading goes on, and locks are kept in memory
	ErrNoSpace            = blobstore.ErrNoSpace                                                           // the disk is full, or close to it; nothing was kept
	ErrBusy               = errors.New("busy, retry later")                                                // another process holds it, or the server is stopping
	ErrForeign            = errors.New("not a Packhouse repository")                                       // the directory holds something else; see ForeignError
	ErrDialect            = errors.New("repository of another dialect")                                    // created by clients of another protocol
	ErrDetached           = errors.New("directory is missing or not the one that was opened, retry later") // its volume or directory was taken away; see DetachedError
)

// ErrVanished is an ErrNoRepository: there was one, and nobody has destroyed it.
var ErrVanished = fmt.Errorf("%w any more: it was here and is missing. Bring its directory back, or mount its volume. If it is gone for good, packhouse repo destroy has the server forget it", ErrNoRepository)

// All lists the errors above but ErrVanished. A test checks that a dialect's table has a row for each.
var All = []error{
	ErrNoRepository, ErrNotFound, ErrExists, ErrIsDir, ErrNotDir, ErrNotEmpty, ErrConflict, ErrLocked,
	ErrQuota, ErrDenied, ErrDigest, ErrIncomplete, ErrInvalid, ErrTooLarge, ErrRange, ErrAlgorithm,
	ErrDamaged, ErrNewer, ErrLoss, ErrCorrupt, ErrReadOnly, ErrReadOnlyDisk, ErrNoSpace, ErrBusy, ErrForeign, ErrDialect, ErrDetached,
}

// QuotaError is an ErrQuota with its figures, in bytes.
type QuotaError struct {
	Used    int64 // counted now
	Wanted  int64 // what usage would become
	Limit   int64
	Request int64 // what the request asked for
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("Quota exceeded: %d > %d", e.Wanted, e.Limit)
}
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// TrashError is an ErrQuota: what a request would add, or would put into the trash, is refused because of what the trash
// holds. Its figures are bytes, or items.
type TrashError struct {
	Items bool  // the figures are items
	Trash int64 // in the trash now
	Limit int64 // that it may hold
	short Emptied
}

func (e *TrashError) Error() string {
	unit := "bytes"
	if e.Items {
		unit = "items"
	}
	return fmt.Sprintf("trash quota exceeded: removed and overwritten items that can still be restored are %d %s, and may be %d: "+
		"wait until their grace time is over, or let the server's administrator run \"packhouse trash empty\", shorten grace or raise trash_quota",
		e.Trash, unit, e.Limit)
}
func (e *TrashError) Is(target error) bool { return target == ErrQuota }

// ChargesError is an ErrQuota: there are as many items and directories as the quota allows, whatever their sizes.
type ChargesError struct {
	Charges int64 // one for each item and directory, and one more for each 512 bytes of its key
	Limit   int64
}

func (e *ChargesError) Error() string {
	return fmt.Sprintf("quota exceeded: %d items and directories, and there may be %d, one for each %d bytes of the quota and %d more: remove some, or raise the quota",
		e.Charges, e.Limit, index.ChargeSize, freeCharges)
}
func (e *ChargesError) Is(target error) bool { return target == ErrQuota }

// HistoryError is an ErrQuota: more changes were made within the time for which each can be undone than may be recorded. Its figures are
// in the unit of ChargesError.
type HistoryError struct {
	Charges   int64 // of the history: one for each change, and one more for each 512 bytes of it
	Limit     int64
	Protected time.Duration // so old must changes be that may be forgotten
}

func (e *HistoryError) Error() string {
	return fmt.Sprintf("quota exceeded: %d changes are recorded, and there may be %d: wait until some are older than %d hours and can be forgotten, or raise the quota or trash_quota",
		e.Charges, e.Limit, int(e.Protected.Hours()))
}
func (e *HistoryError) Is(target error) bool { return target == ErrQuota }

// SpaceError is an ErrNoSpace that was found before anything was written. Its text is for clients.
type SpaceError struct {
	Of    string // ShortDisk or ShortInodes
	Trash int64  // bytes of the repository that were removed and can still be restored
}

func (e *SpaceError) Error() string {
	what := "no space left on the server"
	if e.Of == ShortInodes {
		what = "no inodes left on the server's file system"
	}
	if e.Trash == 0 {
		return what + ": delete or compact first, or enlarge its disk"
	}
	return what + ": " + trashText(e.Trash)
}
func (e *SpaceError) Is(target error) bool { return target == ErrNoSpace }

// trashText says why removing something frees no space now.
func trashText(bytes int64) string {
	return fmt.Sprintf("%d bytes of removed items can still be restored, and what is removed now can be, too: wait until their grace time is over, or let the "+
		`server's administrator run "packhouse trash empty", shorten grace or enlarge the disk`, bytes)
}

// ShortError is the error of a plan that is refused before it begins, because its outputs, or the index that its client stores after
// it, would not fit. It is an ErrNoSpace or an ErrQuota. Its figures are bytes.
type ShortError struct {
	Kind   error // ErrNoSpace or ErrQuota
	Short  int64 // that are missing
	Output int64 // that the plan makes
	Index  int64 // that the index may need beside what it holds until then; 0 where no client stores one
	Trash  int64 // of the repository that were removed and can still be restored; of an ErrNoSpace
}

func (e *ShortError) Error() string {
	if e.Kind == ErrQuota {
		return fmt.Sprintf("quota exceeded: %d bytes short for the index that is stored after this compaction, which may need %d; "+
			"nothing was changed: delete snapshots or raise the quota, then compact again", e.Short, e.Index)
	}
	index := ""
	if e.Index > 0 {
		index = fmt.Sprintf(" and %d for the index that is stored after them", e.Index)
	}
	help := "delete something else or enlarge the disk, then compact again"
	if e.Trash > 0 {
		help = trashText(e.Trash)
	}
	return fmt.Sprintf("no space left on the server: %d bytes short for %d bytes of new items%s, beside what is kept free for deleting; "+
		"nothing was changed: %s", e.Short, e.Output, index, help)
}
func (e *ShortError) Is(target error) bool { return target == e.Kind }

// DigestError is an ErrDigest: the digest of the body is Got, but Want was announced.
type DigestError struct {
	Algorithm string
	Want, Got []byte
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s digest mismatch: expected %x, got %x", e.Algorithm, e.Want, e.Got)
}
func (e *DigestError) Is(target error) bool { return target == ErrDigest }

// ForeignError is an ErrForeign: it says what was found in the directory instead of a repository.
type ForeignError struct {
	Found string // one line, without the directory's own path
}

func (e *ForeignError) Error() string        { return "not a Packhouse repository: " + e.Found }
func (e *ForeignError) Is(target error) bool { return target == ErrForeign }

// errDamaged answers a read of an item whose bytes are known to be wrong.
var errDamaged error = &damagedError{`the stored bytes of this item are damaged; with "packhouse repo salvage" the server's administrator can have them sent as they are`}

// damagedError is an ErrDamaged, and so an ErrCorrupt.
type damagedError struct{ message string }

func (e *damagedError) Error() string        { return e.message }
func (e *damagedError) Is(target error) bool { return target == ErrDamaged || target == ErrCorrupt }

// Errorf creates an error of a kind, one of All, whose text is only the message.
func Errorf(kind error, format string, args ...any) error {
	return &messageError{fmt.Sprintf(format, args...), kind}
}

// IndexError is an ErrCorrupt of a repository's index. Its text is also for clients, and names the command that repairs the index.
type IndexError struct {
	Err     error  // what is wrong
	Mend    string // the command that makes the index anew
	opening bool   // the repository cannot be opened because of it: how it is damaged helps no client
}

func (e *IndexError) Error() string {
	what := ""
	if !e.opening {
		what = ": " + strings.Replace(e.Err.Error(), index.ErrCorrupt.Error()+": ", "", 1)
	}
	return "the index of the repository is damaged" + what + "; " + e.Mend + " builds a new one"
}
func (e *IndexError) Unwrap() error        { return e.Err }
func (e *IndexError) Is(target error) bool { return target == ErrCorrupt }

// messageError shows message and matches kind.
type messageError struct {
	message string
	kind    error
}

func (e *messageError) Error() string        { return e.message }
func (e *messageError) Is(target error) bool { return target == e.kind }
