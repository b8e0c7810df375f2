package repo

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
	"packhouse/repo/spill"
)

// MaxPin is how long a state can be pinned: what is removed meanwhile takes its space until then.
const MaxPin = 48 * time.Hour

// A Pinned is a state of the repository that stays readable while clients go on: from its beginning to Release no blob is removed. What
// expires in the trash waits, and so does who empties it (ErrBusy). It ends early when space is wanted that waits for it, and after
// MaxPin: then every method returns an error that says so, and none of what it gave before counts as one state. It is safe for concurrent use
// but for Each, which is called once at a time.
type Pinned struct {
	r      *Repository
	table  *spill.Table // entries by sortKey: the index must not be held for as long as they are read
	trash  *spill.Table // rows of the trash, in their order; nil: ReadTrash was not called
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  context.CancelFunc
	done   chan struct{}       // closed when blobs may be removed again
	waited atomic.Bool         // a removal was put off
	pace   func(n int64) error // of what is read to find out what an item is; nil: nobody waits

	began       time.Time
	items, size int64
	removed     int64 // rows of the trash
	removedSize int64
	unread      bool // there is an item whose BLAKE3 is not known
}

var errPinned = Errorf(ErrBusy, "nothing is removed for good while the repository is being exported or backed up: try again when that has ended")

// Pin pins the state that the repository has now; ctx ends that. The caller must call Release. Errors: ErrBusy when a state is pinned already, or
// a rollback is under way, a *LossError when files are missing for now, those of the index, ErrNoSpace for the temporary file that a large
// repository needs.
func (r *Repository) Pin(ctx context.Context) (*Pinned, error) {
	p := &Pinned{r: r, done: make(chan struct{}), began: r.env.Now(), table: r.newTable(nil)}
	ctx, p.timer = context.WithTimeoutCause(ctx, MaxPin, Errorf(ErrBusy, "it took longer than %v", MaxPin))
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	if !p.begin() {
		p.timer()
		return nil, Errorf(ErrBusy, "the repository is being exported or backed up already")
	}
	err := errors.Join(r.Available(), r.lost())
	if err == nil {
		err = p.read()
	}
	if err == nil {
		err = r.Available() // a rollback may have begun before the state
	}
	if err != nil {
		p.Release()
		return nil, r.translate(err)
	}
	r.env.Logger.Info("an export or a backup begins: nothing is removed for good until it ends", "repository", r.Name(), "items", p.items, "bytes", p.size)
	return p, nil
}

// begin waits for the end of a removal that is under way; the next ones see that a state is pinned.
func (p *Pinned) begin() bool {
	p.r.trashMu.Lock()
	defer p.r.trashMu.Unlock()
	return p.r.pinned.CompareAndSwap(nil, p)
}

// read takes what Each gives from one state of the index.
func (p *Pinned) read() error {
	return p.r.index.List(p.ctx, index.ListOptions{Recursive: true, Dirs: true, Whole: true}, func(e index.Entry) error {
		if !e.Dir {
			p.items++
			p.size += e.Item.Size
			p.unread = p.unread || e.Item.Flags&index.FlagUnverified != 0
		}
		value, err := json.Marshal(rowOf(e))
		if err != nil {
			return err
		}
		return p.table.Put(sortKey(e.Key), value)
	})
}

// pinnedRow is an entry in the table.
type pinnedRow struct {
	Dir       bool        `json:"d,omitempty"`
	Ref       []byte      `json:"r,omitempty"` // which is no text
	Size      int64       `json:"s,omitempty"`
	Created   time.Time   `json:"c,omitzero"`
	Modified  time.Time   `json:"m,omitzero"`
	BLAKE3    []byte      `json:"b,omitempty"`
	Algorithm string      `json:"a,omitempty"`
	Sum       []byte      `json:"h,omitempty"`
	Writer    string      `json:"w,omitempty"`
	Flags     index.Flags `json:"f,omitempty"`
	Plan      uint64      `json:"p,omitempty"`
}

func rowOf(e index.Entry) pinnedRow {
	i := e.Item
	if e.Dir {
		return pinnedRow{Dir: true, Created: i.Created}
	}
	return pinnedRow{false, []byte(i.Ref), i.Size, i.Created, i.Modified, i.BLAKE3[:], i.Algorithm, i.Sum, i.Writer, i.Flags, i.Plan}
}

func (w *pinnedRow) entry(key string) index.Entry {
	e := index.Entry{Key: key, Dir: w.Dir, Item: index.Item{
		Ref: string(w.Ref), Size: w.Size, Created: w.Created, Modified: w.Modified, Algorithm: w.Algorithm, Sum: w.Sum, Writer: w.Writer, Flags: w.Flags, Plan: w.Plan,
	}}
	copy(e.Item.BLAKE3[:], w.BLAKE3)
	return e
}

// Release ends it. What has waited for that goes on.
func (p *Pinned) Release() {
	p.cancel(context.Canceled)
	p.timer()
	if p.r.pinned.CompareAndSwap(p, nil) {
		close(p.done)
		p.r.env.Logger.Info("an export or a backup has ended: what has expired is removed again", "repository", p.r.Name(), "duration_seconds", p.r.env.Now().Sub(p.began).Seconds())
	}
	_ = p.table.Close() // a file that has no name any more
	if p.trash != nil {
		_ = p.trash.Close()
	}
}

// unpin ends a state that is pinned, if a removal waits for it, and tells whether it did. why is for the log and for the error of who has pinned it.
func (r *Repository) unpin(why string) bool {
	p := r.pinned.Load()
	if p == nil || !p.waited.Load() || !r.pinned.CompareAndSwap(p, nil) {
		return false
	}
	p.cancel(Errorf(ErrBusy, "%s, and what was removed meanwhile had to go: try again later", why))
	close(p.done)
	r.env.Logger.Warn("an export or a backup is ended, because what it keeps from being removed must go", "repository", r.Name(), "why", why)
	return true
}

// unpinned is closed when no state is pinned.
func (r *Repository) unpinned() chan struct{} {
	if p := r.pinned.Load(); p != nil {
		return p.done
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// Err says why the state is not pinned any more; nil: it is.
func (p *Pinned) Err() error {
	if p.ctx.Err() == nil {
		return nil
	}
	return context.Cause(p.ctx)
}

// Total is how many items there are, and their sizes.
func (p *Pinned) Total() (items, bytes int64) { return p.items, p.size }

// Unread tells whether there is an item whose BLAKE3 is not known, because it was adopted and nobody has read it.
func (p *Pinned) Unread() bool { return p.unread }

// NewTable makes a table for what is found out of the state; its file, where it needs one, has no name and lies with the repository. It must be closed.
func (p *Pinned) NewTable() *spill.Table { return p.r.newTable(nil) }

// Each calls fn for the directories and items of the state, each directory before what is in it.
func (p *Pinned) Each(fn func(index.Entry) error) error {
	return p.table.Each(func(key string, value []byte) error {
		if err := p.Err(); err != nil {
			return err
		}
		var row pinnedRow
		if err := json.Unmarshal(value, &row); err != nil {
			return err
		}
		return fn(row.entry(keyOfSorted(key)))
	})
}

// Link gives the file of an item the name that is a path outside of the repository, if the file is the item and nothing else, and has its size; linked
// false: it is not, or cannot have that name, which must be free. The name is not durable yet. Errors: ErrNotFound: its file is missing; else I/O.
func (p *Pinned) Link(e index.Entry, name string) (linked bool, err error) {
	linked, err = p.r.blobs.LinkTo(refOf(e.Item), e.Item.Size, name)
	return linked, p.explain(err)
}

// Clone gives a new file outside of the repository, which is empty, the bytes of an item, if the file system can clone its file, and that is the item and
// nothing else; cloned false: nothing was done. The bytes are not read. Errors: ErrNotFound: its file is missing; else I/O.
func (p *Pinned) Clone(e index.Entry, file vfs.File) (cloned bool, err error) {
	cloned, err = p.r.blobs.CloneTo(refOf(e.Item), e.Item.Size, file)
	return cloned, p.explain(err)
}

// SetPace lets pace be called, and wait, before each read that finds out what an item is that nobody has read since it was adopted. It must be called
// before any other method.
func (p *Pinned) SetPace(pace func(n int64) error) { p.pace = pace }

// BLAKE3 is that of an item of the state. One that nobody has read since it was adopted is read, and held against the digest that its name is.
// Errors: as Open.
func (p *Pinned) BLAKE3(e index.Entry) (sum [32]byte, err error) {
	switch {
	case e.Item.Flags&index.FlagUnverified == 0:
		return e.Item.BLAKE3, nil
	case e.Item.Flags&index.FlagDamaged != 0:
		return sum, errDamaged
	}
	info, err := p.identify(e)
	return info.BLAKE3, p.explain(err)
}

// Recheck reads an item that seems to be damaged once more: one that is gets its mark. Errors: ErrDamaged; else as Open.
func (p *Pinned) Recheck(e index.Entry) error {
	_, err := p.r.blobs.Verify(p.ctx, refOf(e.Item), checkOf(e.Item))
	if errors.Is(err, ErrCorrupt) {
		_, err = p.r.recheck(p.ctx, e)
	}
	return p.explain(err)
}

// identify reads an item whose BLAKE3 is not known.
func (p *Pinned) identify(e index.Entry) (blobstore.Info, error) {
	check := checkOf(e.Item)
	check.Pace = p.pace
	found, err := p.r.blobs.Verify(p.ctx, refOf(e.Item), check) // which leaves it to a scrub to record what was found: that takes a sync
	if !errors.Is(err, ErrCorrupt) {
		return found.Info, err
	}
	if _, err := p.r.recheck(p.ctx, e); err != nil { // which marks it, or finds it sound and gives it checksums
		return blobstore.Info{}, err
	}
	found, err = p.r.blobs.Verify(p.ctx, refOf(e.Item), check)
	return found.Info, err
}

// Open opens an item of the state, and nothing that is known to be damaged, or has not been read since it was adopted and is not what its name
// says: ErrDamaged. ErrNotFound: its file is missing.
func (p *Pinned) Open(e index.Entry) (*blobstore.Blob, error) {
	if e.Item.Flags&index.FlagDamaged != 0 {
		return nil, errDamaged
	}
	want := infoOf(e.Item)
	if e.Item.Flags&index.FlagUnverified != 0 {
		var err error
		if want, err = p.identify(e); err != nil {
			return nil, p.explain(err)
		}
	}
	blob, err := p.r.blobs.Open(refOf(e.Item), want)
	if err != nil {
		return nil, p.explain(err)
	}
	blob.OnDoubt(func() ([]byte, error) { return p.r.recheck(p.ctx, e) })
	return blob, nil
}

// carried are the meta values that a copy of the repository has, too: those that say what it is and what its clients have done. Others are about this
// one: where its files come from, what was read of them, what is under way.
var carried = []string{layout.MetaCreated, metaQuota, metaTrashQuota, metaImpliedGrace, metaRemovals, metaIndexSender}

// Meta are the meta values that a copy of the repository is to have. They are read now, and so may be newer than the state.
func (p *Pinned) Meta() (map[string][]byte, error) {
	meta := make(map[string][]byte)
	for _, name := range carried {
		value, err := p.r.Meta(name)
		if err != nil {
			return nil, err
		}
		if value != nil {
			meta[name] = value
		}
	}
	return meta, nil
}

// Writers are the principals that have completed a backup, and when each did last. They are read now, as Meta.
func (p *Pinned) Writers() (all []index.Freshness, err error) {
	err = p.r.index.Writers(func(f index.Freshness) error {
		all = append(all, f)
		return nil
	})
	return all, p.r.translate(err)
}

// pinnedRemoved is a row of the trash in its table.
type pinnedRemoved struct {
	pinnedRow
	Key     string    `json:"k"`
	At      time.Time `json:"t"`
	Expires time.Time `json:"e"`
}

// ReadTrash makes what can be restored a part of the state: what was removed before the state was pinned and has not expired, but for locks and sessions. It is called once,
// before EachRemoved.
func (p *Pinned) ReadTrash() error {
	p.trash = p.r.newTable(nil)
	err := p.r.index.Trash(time.Time{}, func(row index.Removed) error {
		if err := p.Err(); err != nil {
			return err
		}
		// What was removed since is an item of the state. Rows have whole milliseconds: what was removed within the first one may be both.
		if !row.At.Before(p.began) || !row.Expires.After(p.began) || row.Item.Flags&index.FlagExempt != 0 {
			return nil
		}
		value, err := json.Marshal(pinnedRemoved{rowOf(index.Entry{Item: row.Item}), row.Key, row.At, row.Expires})
		if err != nil {
			return err
		}
		p.unread = p.unread || row.Item.Flags&index.FlagUnverified != 0
		p.removed++
		p.removedSize += row.Item.Size
		return p.trash.Put(row.ID, value)
	})
	return p.r.translate(err)
}

// TotalRemoved is how much ReadTrash has found, and its bytes.
func (p *Pinned) TotalRemoved() (items, bytes int64) { return p.removed, p.removedSize }

// EachRemoved calls fn for what ReadTrash has found, in the order in which it expires.
func (p *Pinned) EachRemoved(fn func(index.Removed) error) error {
	return p.trash.Each(func(id string, value []byte) error {
		if err := p.Err(); err != nil {
			return err
		}
		var row pinnedRemoved
		if err := json.Unmarshal(value, &row); err != nil {
			return err
		}
		e := row.entry(row.Key)
		return fn(index.Removed{ID: id, Key: row.Key, Item: e.Item, At: row.At, Expires: row.Expires})
	})
}

// explain translates an error of a blob: it says nothing of the item when the state is not pinned any more, or the repository is not where it was.
func (p *Pinned) explain(err error) error {
	if err == nil {
		return nil
	}
	if ended := p.Err(); ended != nil {
		return ended
	}
	if errors.Is(err, blobstore.ErrNotFound) {
		if _, _, gone := p.r.index.HasRef(""); gone != nil {
			return p.r.translate(gone)
		}
		if away := p.r.Attached(); away != nil {
			return away
		}
		return ErrNotFound
	}
	return p.r.translate(err)
}

// CanLink tells whether files of the repository can have other names in dir, as far as that can be seen: both are on one mount of one file system. Two
// mounts of the same, as the sandbox of a service makes them, do not do.
func (p *Pinned) CanLink(dir string) bool {
	here, err := mountOf(p.r.dir)
	there, thereErr := mountOf(dir)
	return err == nil && thereErr == nil && here == there
}

// mountOf is the file system and the mount that a directory lies on; the mount is 0 where the kernel does not tell (before Linux 5.8).
func mountOf(dir string) (m [3]uint64, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID, &st); err != nil {
		return m, err
	}
	if m = [3]uint64{uint64(st.Dev_major), uint64(st.Dev_minor)}; st.Mask&unix.STATX_MNT_ID != 0 {
		m[2] = st.Mnt_id
	}
	return m, nil
}

// InFile tells whether the bytes of an item are a file, and nothing else.
func InFile(item index.Item) bool { return refOf(item).Whole() }
