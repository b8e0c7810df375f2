package index

import (
	"fmt"
	"strings"
)

// Bounds of what records hold, in bytes.
const (
	maxRef       = 64
	maxAlgorithm = 32
	maxSum       = 64
	maxWriter    = 128
	maxBy        = 512  // of who calls an item unused
	maxLockName  = 2048 // of the lock that a plan remembers
	maxID        = 1024 // of a lock or job
	maxHolder    = 4096
	maxLockData  = 4096
	maxMetaName  = 255
	maxMetaValue = 1 << 20
	maxJob       = 64 << 20
)

// maxLocks is how many TTL locks an index has: they are outside of the quota, and read all at once.
const maxLocks = 1000

// validate refuses a mutation whose arguments cannot be right whatever the index
// holds, before it is queued: so that no record can fail to encode or decode.
func validate(m Mutation) error {
	switch m := m.(type) {
	case Put:
		return firstError(checkKey(m.Key), validateItem(&m.Item), validatePayload(&m), validateCommit(m.Commit, m.Key), validateCause(m.Cause))
	case Delete:
		return firstError(checkKey(m.Key), bounded("sender", len(m.By), 0, maxBy), validateCause(m.Cause))
	case Move:
		return firstError(checkKey(m.From), checkKey(m.To), validateCommit(m.Commit, ""), validateCause(m.Cause))
	case Require:
		return checkKey(m.Key)
	case MakeDir:
		return checkDir(m.Key)
	case RemoveDir:
		if m.Key == "" {
			return fmt.Errorf("%w: the root cannot be removed", ErrInvalid)
		}
		return checkKey(m.Key)
	case ClearDirs:
		return checkKey(m.Key)
	case Restore:
		return firstError(checkDir(m.Key), validateCause(m.Cause))
	case SetFlags:
		return checkKey(m.Key)
	case Relocate:
		return firstError(bounded("ref", len(m.Ref), 1, maxRef), bounded("payload", len(m.Payload), 0, MaxPayload))
	case SetMeta:
		return validateMeta(m.Name, m.Value)
	case TakeBackBackup:
		return nil
	case RecordBackup:
		return bounded("writer", len(m.Writer), 0, maxWriter)
	case MarkCommit:
		return validateClass(&m.Class)
	case AcquireLock:
		if m.TTL < 0 {
			return fmt.Errorf("%w: negative TTL of a lock", ErrInvalid)
		}
		return firstError(bounded("lock ID", len(m.ID), 1, maxID),
			bounded("lock holder", len(m.Holder), 0, maxHolder), bounded("lock data", len(m.Data), 0, maxLockData))
	case ReleaseLock:
		return bounded("lock ID", len(m.ID), 1, maxID)
	case PutJob:
		return firstError(bounded("job ID", len(m.Job.ID), 1, maxID), bounded("job record", len(m.Job.Record), 0, maxJob))
	case DeleteJob:
		return bounded("job ID", len(m.ID), 1, maxID)
	case OpenPlan:
		return validatePlan(m)
	case ReturnKept:
		return firstError(checkKey(m.Key), validateCause(m.Cause))
	case ProvePlan:
		return validateCause(m.Cause)
	case ReturnSince:
		return validateCause(m.Cause)
	case Found:
		return checkKey(m.Key)
	case PurgeTrash, ExpireLocks, EndPlans, ReleaseKept, ForgetChanges, Redate:
		return nil
	}
	return fmt.Errorf("%w: unknown mutation %T", ErrInvalid, m)
}

func validatePlan(m OpenPlan) error {
	for _, key := range m.Sources {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return firstError(bounded("principal", len(m.Plan.Principal), 0, maxWriter), bounded("address", len(m.Plan.Address), 0, maxWriter),
		bounded("name of a lock", len(m.Plan.Lock), 0, maxLockName), bounded("job ID", len(m.Plan.Job), 0, maxID))
}

func validateCause(c *Cause) error {
	if c == nil {
		return nil
	}
	return firstError(bounded("principal", len(c.Principal), 0, maxWriter), bounded("address", len(c.Address), 0, maxWriter),
		bounded("job ID", len(c.Job), 0, maxID))
}

func validateItem(item *Item) error {
	if item.Size < 0 {
		return fmt.Errorf("%w: negative size", ErrInvalid)
	}
	return firstError(bounded("ref", len(item.Ref), 0, maxRef), bounded("digest algorithm", len(item.Algorithm), 0, maxAlgorithm),
		bounded("digest", len(item.Sum), 0, maxSum), bounded("writer", len(item.Writer), 0, maxWriter))
}

// validatePayload wants either a ref or bytes.
func validatePayload(m *Put) error {
	if (m.Item.Ref == "") != (m.Payload != nil) {
		return fmt.Errorf("%w: an item has a ref or a payload", ErrInvalid)
	}
	return bounded("payload", len(m.Payload), 0, MaxPayload)
}

// validateMeta keeps names that begin with 0x00 for the index itself.
func validateMeta(name string, value []byte) error {
	if strings.HasPrefix(name, "\x00") {
		return fmt.Errorf("%w: reserved meta name", ErrInvalid)
	}
	return firstError(bounded("meta name", len(name), 1, maxMetaName), bounded("meta value", len(value), 0, maxMetaValue))
}

func bounded(what string, n, least, most int) error {
	if n < least || n > most {
		return fmt.Errorf("%w: a %s has %d to %d bytes, this one %d", ErrInvalid, what, least, most, n)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
