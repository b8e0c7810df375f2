package repo

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
)

// A repository on a read-only file system is opened without a write: the index as it is, without the sweep of what a
// crash left, without the reclaimer. Clients that restore or check must be able to lock, V'Ger's to register a
// session, and borg's to note in cache/ what they have checked. What they store there, and TTL locks, lies in
// memory, in a small repository of its own, the overlay, and is forgotten when the repository is closed. Of locks/ and
// sessions/ it begins with a copy of what is on the disk; cache/, which can be large, is read from the disk where
// the overlay has nothing of the name. Every other change is refused.

// Bounds of the overlays. Locks and sessions of one have overlayExempt bytes: they are in memory.
const (
	memoryItems   = 10_000    // of one
	overlayExempt = 16 << 20  // bytes of locks and sessions, of one
	memoryCache   = 64 << 20  // bytes below cache/, of one
	memoryBytes   = 256 << 20 // of the files of all in a set: a trailer each, and what is removed and not gone yet
)

// cacheOf is the directory of what the clients of a dialect only store to be faster the next time; "": they have none.
var cacheOf = map[string]string{"borgstore": "cache"}

// memoryDisk is where the files of the overlays of a data directory are.
type memoryDisk struct {
	once  sync.Once
	fs    vfs.FS
	given atomic.Int64 // directories
}

// dir makes a directory for one overlay.
func (m *memoryDisk) dir() (fsys vfs.FS, dir string, err error) {
	m.once.Do(func() { m.fs = vfs.NewMemory(memoryBytes) })
	dir = fmt.Sprintf("/%d", m.given.Add(1))
	return m.fs, dir, m.fs.Mkdir(dir)
}

// overlay is what clients have stored of a repository on a read-only file system.
type overlay struct {
	*Repository
	cache string // directory whose items lie over those of the disk; "": none

	mu   sync.Mutex      // held for a look at gone
	gone map[string]bool // keys below cache that are on the disk and were removed; guarded by mu
}

// readOnlyDiskError is an ErrReadOnlyDisk, and the ErrReadOnly of who does not care why.
type readOnlyDiskError struct{}

func (readOnlyDiskError) Error() string        { return "the file system of the repository is read-only" }
func (readOnlyDiskError) Is(target error) bool { return target == ErrReadOnly }

var errMemoryFull error = Errorf(ErrNoSpace, "no more fits into the server's memory, and its disk is read-only")

// OnReadOnlyDisk reports whether dir is on a file system that is read-only. A file system that cannot tell counts as writable.
func OnReadOnlyDisk(fsys vfs.FS, dir string) bool {
	teller, ok := fsys.(vfs.ReadOnlyTeller)
	if !ok {
		return false
	}
	readOnly, err := teller.ReadOnly(dir)
	return err == nil && readOnly
}

// ReadOnlyDisk reports whether the repository was on a read-only file system when it was opened.
func (r *Repository) ReadOnlyDisk() bool { return r.readOnlyDisk }

// Remounted reports whether the file system has become writable or read-only since the repository was opened.
func (r *Repository) Remounted() bool { return OnReadOnlyDisk(r.env.FS, r.dir) != r.readOnlyDisk }

// copied tells whether a key is one of those that the overlay has a copy of, or a directory of them.
func copied(key string) bool {
	top := topOf(key)
	return top == "locks" || top == "sessions"
}

func topOf(key string) string {
	top, _, _ := strings.Cut(key, "/")
	return top
}

// layered tells whether a key is of the cache, or its directory.
func (o *overlay) layered(key string) bool { return o.cache != "" && topOf(key) == o.cache }

// hides tells whether a key of the cache was removed, although it is on the disk.
func (o *overlay) hides(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone[key]
}

// hide makes a key of the cache one that was removed; hidden false: one that was stored again.
func (o *overlay) hide(key string, hidden bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !hidden:
		delete(o.gone, key)
	case len(o.gone) >= memoryItems:
		return errMemoryFull
	default:
		if o.gone == nil {
			o.gone = make(map[string]bool)
		}
		o.gone[key] = true
	}
	return nil
}

// at is the access to where a key is written: the repository, or its overlay.
func (a *Access) at(key string) *Access {
	if o := a.r.overlay; o != nil && (copied(key) || o.layered(key)) {
		return &Access{o.Repository, a.p}
	}
	return a
}

// read is the repository in which a key is read.
func (r *Repository) read(key string) *Repository {
	o := r.overlay
	switch {
	case o == nil:
	case copied(key):
		return o.Repository
	case o.layered(key):
		if _, err := o.index.Get(key); err == nil || o.hides(key) {
			return o.Repository
		}
	}
	return r
}

// uncache removes a key of the cache, on the disk too as far as clients can see. done is false when it is none.
func (a *Access) uncache(ctx context.Context, key string) (done bool, err error) {
	o := a.r.overlay
	if o == nil || !o.layered(key) {
		return false, nil
	}
	below, belowErr := a.r.index.Get(key)
	err = a.at(key).Delete(ctx, key)
	if belowErr != nil || below.Dir || o.hides(key) || err != nil && !errors.Is(err, ErrNotFound) {
		return true, err
	}
	return true, o.hide(key, true)
}

// ofBatch is at for all keys of a batch. One that is not all of the overlay is of the repository, which refuses it.
func (a *Access) ofBatch(b *Batch) *Access {
	if a.r.overlay == nil || b.Open != nil || b.Job != nil || len(b.Puts)+len(b.Deletes) == 0 {
		return a
	}
	all := !slices.ContainsFunc(b.Puts, func(p BatchPut) bool { return !copied(p.Upload.o.Key) }) &&
		!slices.ContainsFunc(b.Deletes, func(d BatchDelete) bool { return !copied(d.Key) }) &&
		!slices.ContainsFunc(b.Requires, func(q index.Require) bool { return !copied(q.Key) })
	if all {
		return &Access{a.r.overlay.Repository, a.p}
	}
	return a
}

// Entry is index.Get for a dialect that reads an item for its own purposes. For what a client may see, use Access.Stat.
func (r *Repository) Entry(key string) (index.Entry, error) {
	r = r.read(key)
	entry, err := r.index.Get(key)
	return entry, r.translate(err)
}

// rows is index.Rows, with the overlay over what it covers.
func (r *Repository) rows(ctx context.Context, o index.ListOptions, fn func(*index.Row) error) error {
	v := r.overlay
	switch {
	case v == nil:
		return r.index.Rows(ctx, o, fn)
	case copied(o.Dir):
		return v.index.Rows(ctx, o, fn)
	case o.Dir != "" && !v.layered(o.Dir):
		return r.index.Rows(ctx, o, fn)
	}
	var above []*index.Row // bounded by memoryItems
	missing := v.index.Rows(ctx, o, func(row *index.Row) error {
		above = append(above, row.Clone())
		return nil
	})
	if missing != nil && !errors.Is(missing, index.ErrNotFound) {
		return missing
	}
	emit := func(before *index.Row) error {
		for len(above) > 0 && (before == nil || above[0].Compare(before) < 0) {
			if err := fn(above[0]); err != nil {
				return err
			}
			above = above[1:]
		}
		return nil
	}
	err := r.index.Rows(ctx, o, func(row *index.Row) error {
		key := row.Key()
		if copied(key) {
			return nil
		}
		if err := emit(row); err != nil {
			return err
		}
		if len(above) > 0 && above[0].Compare(row) == 0 || v.layered(key) && v.hides(key) {
			return nil
		}
		return fn(row)
	})
	if errors.Is(err, index.ErrNotFound) && missing == nil {
		err = nil // the directory is in the overlay alone
	}
	if err != nil {
		return err
	}
	return emit(nil)
}

// openOverlay makes the overlay of a repository that is open for reading.
func (r *Repository) openOverlay(ctx context.Context) error {
	fsys, dir, err := r.memory.dir()
	if err != nil {
		return err
	}
	env := r.env
	env.FS, env.Index = fsys, index.Options{}
	ix, err := index.NewMemory(map[string][]byte{layout.MetaDialect: []byte(r.dialect), layout.MetaID: []byte(r.id)})
	if err != nil {
		return err
	}
	m := &Repository{
		dir: dir, env: env, disk: &diskLedger{}, index: ix, hashes: newHashings(), rechecks: newHashings(), wake: make(chan struct{}, 1), thinSeed: maphash.MakeSeed(),
		dialect: r.dialect, id: r.id, created: r.created, inMemory: true, letGo: func() error { return fsys.RemoveAll(dir) },
	}
	if err = blobstore.Init(fsys, dir); err == nil {
		m.blobs, err = blobstore.Open(blobstore.Options{Dir: dir, FS: fsys, Rand: env.Rand, Now: env.Now})
	}
	if err != nil {
		return errors.Join(err, ix.Close(), m.letGo())
	}
	m.sweeps.init()
	m.rollback.init()
	o := &overlay{Repository: m, cache: cacheOf[r.dialect]}
	settings := Settings{} // nothing that is not exempt, and nothing that can be restored
	if o.cache != "" {
		settings.Quota = memoryCache
	}
	m.Configure(settings)
	m.start()
	if err := r.fillOverlay(ctx, m); err != nil {
		return errors.Join(err, m.Close())
	}
	r.overlay = o
	return nil
}

// fillOverlay copies what the disk has of locks and sessions, so that clients find them, and can remove stale ones.
func (r *Repository) fillOverlay(ctx context.Context, m *Repository) error {
	for _, dir := range []string{"locks", "sessions"} {
		entry, err := r.index.Get(dir)
		if err != nil || !entry.Dir {
			continue // there is none, or the index is damaged: then it is read no further
		}
		if _, err := m.index.Apply(ctx, index.MakeDir{Key: dir, Now: entry.Item.Created}); err != nil {
			return err
		}
		var entries []index.Entry
		enough := errors.New("enough")
		err = r.index.List(ctx, index.ListOptions{Dir: dir, Recursive: true}, func(e index.Entry) error {
			if entries = append(entries, e); len(entries) >= memoryItems/2 {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			return err
		}
		for _, e := range entries {
			if err := r.copyTo(ctx, m, e); err != nil {
				// One that cannot be read holds up nobody; nor could it be read from the disk.
				r.env.Logger.Warn("could not read a lock or session on the read-only file system; it is ignored", "repository", r.Name(), "key", e.Key, "error", err)
			}
		}
	}
	locks, err := r.index.Locks()
	if err != nil {
		return err
	}
	for _, l := range locks {
		taken := []index.Mutation{index.AcquireLock{ID: l.ID, Holder: l.Holder, Data: l.Data, TTL: l.TTL, Now: l.Since}}
		if l.Acquired.After(l.Since) {
			// As long as it takes to get from the one to the other, and then what is left.
			taken[0] = index.AcquireLock{ID: l.ID, Holder: l.Holder, Data: l.Data, TTL: l.Acquired.Sub(l.Since) + time.Second, Now: l.Since}
			taken = append(taken, index.AcquireLock{ID: l.ID, Holder: l.Holder, Data: l.Data, TTL: l.TTL, Now: l.Acquired})
		}
		if _, err := m.index.Apply(ctx, taken...); err != nil {
			return err
		}
	}
	return nil
}

// copyTo stores an item of the disk in the overlay, with the times it has.
func (r *Repository) copyTo(ctx context.Context, m *Repository, e index.Entry) error {
	if e.Item.Size > maxExempt || m.index.Counters().Exempt+e.Item.Size > overlayExempt {
		return errMemoryFull
	}
	blob, err := r.blobs.Open(refOf(e.Item), infoOf(e.Item))
	if err != nil {
		return err
	}
	defer blob.Close()
	w, err := m.blobs.Create(ctx, e.Item.Size)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(blob, 0, blob.Size())); err != nil {
		return err
	}
	label, err := layout.EncodeLabel(m.dialect, e.Key, e.Item, true)
	if err != nil {
		return err
	}
	ref, info, err := w.Commit(ctx, label)
	if err != nil {
		return err
	}
	if known := infoOf(e.Item); known.Hashed() && info.BLAKE3 != known.BLAKE3 {
		return errors.Join(fmt.Errorf("%w: its bytes are not those that were stored", ErrCorrupt), m.blobs.Remove(ref))
	}
	item := e.Item
	item.Ref, item.BLAKE3, item.Plan, item.Found, item.Flags = string(ref), info.BLAKE3, 0, time.Time{}, 0
	if _, err := m.index.Apply(ctx, index.Put{Key: e.Key, Item: item, Exempt: true, Limit: -1, Now: item.Modified, TrashUntil: item.Modified}); err != nil {
		return err
	}
	return m.blobs.Settle(ref)
}
