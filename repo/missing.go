package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"packhouse/blobstore"
	"packhouse/index"
)

// An item whose file is gone looks to clients as if it were not there: a read is ErrNotFound, and no list has it. Its row
// stays, marked with index.FlagMissing, so that an administrator sees what was lost, and so that the file may come
// back or the same bytes be stored again. Whoever finds a file missing marks it: a read, a scrub, a sweep (see sweep.go).
//
// So much may be missing that it is not believed: then the disk is not what it was rather than that files of it were lost,
// and a client that is told so would write the loss into its own index. That is a LossError, and nothing is marked.

// Bounds of what is believed to be lost at once.
const (
	lossItems = 16 // so many may be
	lossShare = 100
	lossSmall = 4 // of a repository with no more items, all may be
)

// LossError is an ErrLoss: so much is missing at once that an administrator must decide whether it is lost.
type LossError struct {
	Items  int64    // missing, and not marked
	Bytes  int64    // their sizes
	Total  int64    // items of the repository
	Shards []string // directories below blobs that are missing
}

func (e *LossError) Error() string {
	what := fmt.Sprintf("the files of %d of %d items are missing", e.Items, e.Total)
	if len(e.Shards) > 0 {
		names := e.Shards
		if len(names) > 5 {
			names = append(names[:5:5], "…")
		}
		what = fmt.Sprintf("%d directories of blobs are missing (blobs/%s)", len(e.Shards), strings.Join(names, ", blobs/"))
	}
	return what + `: nothing is listed or stored until they are back, or until an administrator runs "packhouse repo accept-loss"`
}
func (e *LossError) Is(target error) bool { return target == ErrLoss }

// tooMuch tells whether so many items of total are more than is believed to be lost at once.
func tooMuch(lost, total int64) bool {
	return lost > lossItems && lost*lossShare > total || total > lossSmall && lost*2 > total
}

// lost is the LossError that holds now, nil when none does.
func (r *Repository) lost() error {
	if l := r.loss.Load(); l != nil {
		return l
	}
	return nil
}

// suspend lets a LossError hold.
func (r *Repository) suspend(l *LossError) error {
	if old := r.loss.Swap(l); old == nil || old.Items != l.Items || len(old.Shards) != len(l.Shards) {
		r.env.Logger.Error("too many files are missing at once: lists and writes are refused; check the disk, or run packhouse repo accept-loss if they are lost", "repository", r.Name(), "error", l)
	}
	return l
}

// inPlace checks that the files below the directory are those that were opened, as far as that is known. Otherwise no item may be
// reported as missing.
func (r *Repository) inPlace() error {
	if err := r.Attached(); err != nil || r.env.Here == nil {
		return err
	}
	return r.env.Here()
}

// here refuses to call a blob lost while the place where it should lie is not there.
func (r *Repository) here(ref blobstore.Ref) error {
	if err := r.inPlace(); err != nil {
		return err
	}
	there, err := r.blobs.HasShard(ref)
	if err != nil || there {
		return r.translate(err)
	}
	shards, err := r.blobs.MissingShards()
	if err != nil {
		return r.translate(err)
	}
	r.sweepSoon()
	return r.suspend(&LossError{Shards: shards, Total: r.index.Counters().Items})
}

// sweepAtOnce is how many items a repository has at most whose names are compared before one that was found missing is
// marked: it takes some 50 ms.
const sweepAtOnce = 20_000

// missing marks an item for which there is no file, and returns what to tell who asked for it: ErrNotFound, or
// why that cannot be said.
func (r *Repository) missing(ctx context.Context, e index.Entry) error {
	ctx = context.WithoutCancel(ctx)
	if err := r.lost(); err != nil {
		return err
	}
	if err := r.here(refOf(e.Item)); err != nil {
		return err
	}
	if e.Item.Flags&index.FlagMissing != 0 {
		return ErrNotFound
	}
	total := r.index.Counters().Items
	if total <= sweepAtOnce || tooMuch(r.noticed.Add(1), total) {
		// What else is missing decides whether this one is lost.
		if _, err := r.Sweep(ctx); err != nil {
			return err
		}
		if err := r.lost(); err != nil {
			return err
		}
	} else {
		r.sweepSoon()
	}
	if now, err := r.index.Get(e.Key); err == nil && now.Item.Flags&index.FlagMissing == 0 {
		r.setMarks(ctx, []marking{{entry: e, set: index.FlagMissing}})
	}
	return ErrNotFound
}

// returned takes the mark from an item whose file is there again, and says what it then is.
func (r *Repository) returned(ctx context.Context, e index.Entry) index.Entry {
	if e.Item.Flags&index.FlagMissing == 0 {
		return e
	}
	m := marking{entry: e, clear: index.FlagMissing}
	if blob, err := r.blobs.Open(refOf(e.Item), infoOf(e.Item)); err == nil {
		_ = blob.Close() // nothing was read
	} else if errors.Is(err, ErrCorrupt) {
		m.set = index.FlagDamaged // it is shorter than it was
	}
	r.setMarks(context.WithoutCancel(ctx), []marking{m})
	e.Item.Flags = e.Item.Flags&^m.clear | m.set
	return e
}

// marking is a change of the flags of an item.
type marking struct {
	entry      index.Entry
	set, clear index.Flags
	blake3     *[32]byte // of an item whose BLAKE3 was not known; nil: nothing new
}

// markBatch is how many items one transaction marks.
const markBatch = 500

// setMarks changes flags of items that are still the same, and takes account of what counts then. A repository that
// takes no changes has them unmarked: what they are is seen with every look. It returns how many it changed.
func (r *Repository) setMarks(ctx context.Context, all []marking) (n int) {
	if r.readOnlyDisk {
		return 0
	}
	for len(all) > 0 {
		part := all[:min(len(all), markBatch)]
		all = all[len(part):]
		muts := make([]index.Mutation, len(part))
		for i, m := range part {
			muts[i] = index.SetFlags{Key: m.entry.Key, Ref: m.entry.Item.Ref, Set: m.set, Clear: m.clear, BLAKE3: m.blake3}
		}
		results, err := r.record(ctx, muts...)
		if refused(err) && len(part) > 1 {
			for i := range part { // one of them is another item by now
				n += r.setMarks(ctx, part[i:i+1])
			}
			continue
		}
		if err != nil {
			if !refused(err) && !errors.Is(err, ErrReadOnly) {
				r.env.Logger.Warn("could not mark items as missing", "repository", r.Name(), "error", err)
			}
			continue
		}
		for i, m := range part {
			r.quota.add(results[i].Delta, r.commit.counts(m.entry.Key, results[i].Delta))
			r.logMark(m)
			if m.set&(index.FlagDamaged|index.FlagMissing) != 0 {
				r.repairs.add(m.entry)
			}
		}
		n += len(part)
	}
	return n
}

func (r *Repository) logMark(m marking) {
	log, key := r.env.Logger.With("repository", r.Name()), m.entry.Key
	if m.set&index.FlagMissing != 0 && m.entry.Item.Flags&index.FlagMissing == 0 {
		log.Error("the file of an item is missing", "key", key, "bytes", m.entry.Item.Size)
	}
	if m.clear&index.FlagMissing != 0 && m.entry.Item.Flags&index.FlagMissing != 0 {
		log.Warn("the file of a missing item is back", "key", key)
	}
	if m.clear&index.FlagDamaged != 0 && m.entry.Item.Flags&index.FlagDamaged != 0 {
		log.Warn("damaged item was repaired", "key", key)
	}
}

// find is what the index has under a key, with the mark that belongs to it: the file of an item is looked at. That of
// a missing item is ErrNotFound in the error beside the entry, which is whole all the same.
func (r *Repository) find(ctx context.Context, key string) (index.Entry, error) {
	last := ""
	for {
		entry, err := r.index.Get(key)
		if err != nil || entry.Dir {
			return entry, r.translate(err)
		}
		there, err := r.blobs.Has(refOf(entry.Item))
		if err != nil {
			return entry, r.translate(err)
		}
		if there {
			return r.returned(ctx, entry), nil
		}
		if last == entry.Item.Ref {
			err := r.missing(ctx, entry)
			entry.Item.Flags |= index.FlagMissing
			return entry, err
		}
		last = entry.Item.Ref // it may have been replaced and its old blob removed meanwhile
	}
}

// RowHere is Row without what is kept after compactions.
func (a *Access) RowHere(ctx context.Context, key string) (index.Entry, error) {
	return a.row(ctx, key, false)
}

// Row is Lookup that finds a missing item too, with its flag.
func (a *Access) Row(ctx context.Context, key string) (index.Entry, error) {
	return a.row(ctx, key, true)
}

func (a *Access) row(ctx context.Context, key string, recall bool) (index.Entry, error) {
	if err := a.mayStat(key); err != nil {
		return index.Entry{}, err
	}
	r := a.r.read(key)
	entry, err := r.find(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound) && entry.Item.Ref != "":
		return entry, nil
	case errors.Is(err, ErrNotFound) && key != "" && recall:
		entry, err = r.recall(ctx, key)
		if err != nil {
			return entry, err
		}
		there, err := r.blobs.Has(refOf(entry.Item))
		if err == nil && !there {
			err = r.missing(ctx, entry)
			entry.Item.Flags |= index.FlagMissing
			if errors.Is(err, ErrNotFound) {
				err = nil
			}
		}
		return entry, r.translate(err)
	}
	return entry, err
}

// Readable tells why an item that Row found cannot be read: ErrNotFound, ErrDamaged. Of one that is damaged, sections may still be Sound.
func (a *Access) Readable(item index.Item) error {
	switch {
	case item.Flags&index.FlagMissing != 0:
		return ErrNotFound
	case item.Flags&index.FlagDamaged != 0 && !a.r.Salvaging():
		return errDamaged
	}
	return nil
}

// Marked calls fn for the items that are known to be missing or damaged, in the order of their keys.
func (r *Repository) Marked(ctx context.Context, fn func(index.Entry) error) error {
	if c := r.index.Counters(); c.MissingItems == 0 && c.DamagedItems == 0 {
		return nil
	}
	return r.translate(r.index.List(ctx, index.ListOptions{Recursive: true}, func(e index.Entry) error {
		if e.Item.Flags&(index.FlagMissing|index.FlagDamaged) == 0 {
			return nil
		}
		return fn(e)
	}))
}
