package repo

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo/layout"
)

// An item whose bytes are wrong or gone is repaired where another blob with its size and BLAKE3 is found in the trash, or among what is
// kept after compactions: a client had removed it and stored it again, say. Its bytes are read and compared once more, and become the
// bytes of the item: a file gets another file under its name, a payload in the log is stored again under its ref. Key, times and
// ref stay, so this is no change that a client sees. It is done in the background as soon as an item is marked.

// repairQueue is how many marked items wait for it at most; others have to be found by the next scrub.
const repairQueue = 1024

// repairs is what waits to be repaired.
type repairs struct {
	wake chan struct{} // something is there; capacity 1

	mu      sync.Mutex             // held for a look at waiting
	waiting map[string]index.Entry // by ref; guarded by mu
}

func (q *repairs) init() { q.wake = make(chan struct{}, 1) }

// add has an item repaired soon. There is nothing to go by where its BLAKE3 is not known.
func (q *repairs) add(e index.Entry) {
	if !infoOf(e.Item).Hashed() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = make(map[string]index.Entry)
	}
	if len(q.waiting) < repairQueue {
		q.waiting[e.Item.Ref] = e
	}
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (q *repairs) take() map[string]index.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting = nil
	return all
}

// repairPause is how long repairs wait after each time: a look at the trash takes a second for a million rows.
const repairPause = 5 * time.Second

// repairMarked repairs what is marked until ctx ends; first of all, what was found before the repository was opened.
func (r *Repository) repairMarked(ctx context.Context) {
	if c := r.index.Counters(); c.TrashItems+c.KeptItems > 0 {
		err := r.Marked(ctx, func(e index.Entry) error {
			r.repairs.add(e)
			return ctx.Err()
		})
		if err != nil && ctx.Err() == nil {
			r.env.Logger.Warn("could not look for damaged items to repair", "repository", r.Name(), "error", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.repairs.wake:
		}
		if err := r.repairAll(ctx, r.repairs.take()); err != nil && ctx.Err() == nil {
			r.env.Logger.Warn("damaged items could not be repaired", "repository", r.Name(), "error", err)
		}
		if rest(ctx, repairPause) != nil {
			return
		}
	}
}

var errAllFound = errors.New("all are repaired")

// repairAll repairs those of items, by ref, for which there is another blob.
func (r *Repository) repairAll(ctx context.Context, items map[string]index.Entry) error {
	wanted := make(map[blobstore.Info][]index.Entry)
	for _, e := range items {
		wanted[infoOf(e.Item)] = append(wanted[infoOf(e.Item)], e)
	}
	try := func(where string) func(index.Removed) error {
		return func(removed index.Removed) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			info := infoOf(removed.Item)
			waiting := wanted[info]
			if len(waiting) == 0 {
				return nil
			}
			if done := r.repairFrom(ctx, waiting, removed, where); done == len(waiting) {
				delete(wanted, info)
			}
			if len(wanted) == 0 {
				return errAllFound
			}
			return nil
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	err := r.Trash(try("the trash"))
	if err == nil {
		fromKept := try("what is kept after compactions")
		err = r.EachKept(func(k index.Kept) error { return fromKept(k.Removed) })
	}
	if errors.Is(err, errAllFound) {
		return nil
	}
	return err
}

// repairFrom repairs items, all of the same bytes, from those of what was removed. It returns how many need no repair any more.
func (r *Repository) repairFrom(ctx context.Context, items []index.Entry, from index.Removed, where string) (done int) {
	for _, e := range items {
		log := r.env.Logger.With("repository", r.Name(), "key", e.Key, "from", where)
		entry, err := r.index.Get(e.Key)
		if err == nil && entry.Item.Flags&(index.FlagDamaged|index.FlagMissing) == 0 || errors.Is(err, ErrNotFound) {
			done++
			continue
		}
		if err == nil {
			if err = r.repair(ctx, entry, from.Item); err == nil {
				err = r.Verify(ctx, entry, nil) // which takes the mark away
			}
		}
		switch {
		case err == nil:
			done++
			log.Warn("item has its bytes again: they were found where it had been removed before", "removed", from.At)
		case ctx.Err() == nil:
			log.Warn("a damaged item could not be repaired", "error", err)
		}
	}
	return done
}

// repair gives a blob the bytes of another one, which must have the size and BLAKE3 that the index has of entry.
func (r *Repository) repair(ctx context.Context, entry index.Entry, from index.Item) error {
	if err := errors.Join(r.Attached(), r.writable()); err != nil {
		return err // nothing is written while the disk may be another one, or has failed
	}
	source, err := r.blobs.Open(refOf(from), infoOf(from))
	if err != nil {
		return err
	}
	defer source.Close() // it is only read
	want := infoOf(entry.Item)
	if _, inLog := journal.ParseRef(entry.Item.Ref); inLog {
		return r.repairPayload(ctx, entry, want, source)
	}
	disk, err := r.reserveDisk(want.Size, r.reserve.Load())
	if err != nil {
		return err
	}
	defer disk.end()
	label, err := layout.EncodeLabel(r.dialect, entry.Key, entry.Item, entry.Item.Flags&index.FlagExempt != 0)
	if err != nil {
		return err
	}
	file, err := r.blobs.Replace(ctx, refOf(entry.Item), want, label, io.NewSectionReader(source, 0, source.Size()))
	if err != nil {
		return err
	}
	defer file.Discard()
	r.trashMu.Lock() // what nothing refers to is removed under it, and must not get a file again
	defer r.trashMu.Unlock()
	if _, there, err := r.index.HasRef(entry.Item.Ref); err != nil || !there {
		return errors.Join(err, ErrNotFound)
	}
	return file.Commit()
}

// repairPayload is repair of an item in the log.
func (r *Repository) repairPayload(ctx context.Context, entry index.Entry, want blobstore.Info, source *blobstore.Blob) error {
	payload := make([]byte, source.Size())
	if _, err := source.ReadAt(payload, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if int64(len(payload)) != want.Size || blake3.Sum256(payload) != want.BLAKE3 {
		return ErrCorrupt
	}
	_, err := r.apply(ctx, index.Relocate{Ref: entry.Item.Ref, Payload: payload})
	return err
}
