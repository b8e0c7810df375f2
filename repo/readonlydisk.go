package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
)

// A repository on a read-only file system is opened without a write: the index as it is, without the sweep of what a
// crash left, without the reclaimer. Clients that restore or check must be able to lock, and V'Ger's to register a
// session: what they store below locks/ and sessions/, and TTL locks, lies in memory, in a small repository of its own,
// the overlay, which begins with what is on the disk and is forgotten with the last of this process. Every other change is refused.

// memoryBytes and memoryItems bound an overlay.
const (
	memoryBytes = 2 * exemptTotal // of its files: trailers, and what is removed and not yet gone
	memoryItems = 10_000
)

// memoryDir is where an overlay's files are in its file system.
const memoryDir = "/overlay"

// readOnlyDiskError is an ErrReadOnlyDisk, and the ErrReadOnly of who does not care why.
type readOnlyDiskError struct{}

func (readOnlyDiskError) Error() string { return "the file system of the repository is read-only" }
func (readOnlyDiskError) Is(target error) bool {
	return target == ErrReadOnlyDisk || target == ErrReadOnly
}

var (
	errReadOnlyDisk error = readOnlyDiskError{}
	errMemoryFull   error = &messageError{"no more locks and sessions fit into the server's memory; the disk takes none, it is read-only", ErrNoSpace}
)

// onReadOnlyDisk tells whether dir lies on a file system that takes no writes; what cannot say so takes them.
func onReadOnlyDisk(fsys vfs.FS, dir string) bool {
	teller, ok := fsys.(vfs.ReadOnlyTeller)
	if !ok {
		return false
	}
	readOnly, err := teller.ReadOnly(dir)
	return err == nil && readOnly
}

// onReadOnlyDisk is the function of that name for a directory of the set that need not be there.
func (s *Set) onReadOnlyDisk(dir string) bool {
	if _, err := s.o.FS.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	return onReadOnlyDisk(s.o.FS, dir)
}

// ReadOnlyDisk tells whether the repository lies on a read-only file system: it is as it was when it was opened.
func (r *Repository) ReadOnlyDisk() bool { return r.readOnlyDisk }

// remounted tells whether the file system takes writes now although it did not, or the other way round.
func (r *Repository) remounted() bool { return onReadOnlyDisk(r.env.FS, r.dir) != r.readOnlyDisk }

// overlaid tells whether a key is one of the overlay's, or a directory of them.
func overlaid(key string) bool {
	top, _, _ := strings.Cut(key, "/")
	return top == "locks" || top == "sessions"
}

// at is the access to where a key lies: the repository, or its overlay.
func (a *Access) at(key string) *Access {
	if a.r.overlay != nil && overlaid(key) {
		return &Access{a.r.overlay, a.p}
	}
	return a
}

// ofBatch is at for all keys of a batch. One that is not all of the overlay is of the repository, which refuses it.
func (a *Access) ofBatch(b *Batch) *Access {
	if a.r.overlay == nil || b.Open != nil || b.Job != nil || len(b.Puts)+len(b.Deletes) == 0 {
		return a
	}
	all := !slices.ContainsFunc(b.Puts, func(p BatchPut) bool { return !overlaid(p.Upload.o.Key) }) &&
		!slices.ContainsFunc(b.Deletes, func(d BatchDelete) bool { return !overlaid(d.Key) }) &&
		!slices.ContainsFunc(b.Requires, func(q index.Require) bool { return !overlaid(q.Key) })
	if all {
		return &Access{a.r.overlay, a.p}
	}
	return a
}

// Entry is index.Get for a dialect that looks at an item with the server's own eyes. Of what a client may see,
// Access.Stat tells.
func (r *Repository) Entry(key string) (index.Entry, error) {
	if r.overlay != nil && overlaid(key) {
		r = r.overlay
	}
	entry, err := r.index.Get(key)
	return entry, r.translate(err)
}

// list is index.List, with the overlay in the place of what it covers.
func (r *Repository) list(ctx context.Context, o index.ListOptions, fn func(index.Entry) error) error {
	if r.overlay == nil {
		return r.index.List(ctx, o, fn)
	}
	if o.Dir != "" {
		if overlaid(o.Dir) {
			r = r.overlay
		}
		return r.index.List(ctx, o, fn)
	}
	var above []index.Entry // bounded by memoryItems
	err := r.overlay.index.List(ctx, o, func(e index.Entry) error {
		above = append(above, e)
		return nil
	})
	if err != nil {
		return err
	}
	emit := func(before string) error {
		for len(above) > 0 && (before == "" || compareKeys(above[0].Key, before) < 0) {
			if err := fn(above[0]); err != nil {
				return err
			}
			above = above[1:]
		}
		return nil
	}
	err = r.index.List(ctx, o, func(e index.Entry) error {
		if overlaid(e.Key) {
			return nil
		}
		if err := emit(e.Key); err != nil {
			return err
		}
		return fn(e)
	})
	if err != nil {
		return err
	}
	return emit("")
}

// compareKeys is the order of a listing: by name, level by level.
func compareKeys(a, b string) int {
	for {
		nameA, restA, moreA := strings.Cut(a, "/")
		nameB, restB, moreB := strings.Cut(b, "/")
		if order := cmp.Or(cmp.Compare(nameA, nameB), compareBool(moreA, moreB)); order != 0 || !moreA {
			return order
		}
		a, b = restA, restB
	}
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// openOverlay makes the overlay of a repository that is open for reading.
func (r *Repository) openOverlay(ctx context.Context) error {
	env := r.env
	env.FS, env.Index = vfs.NewMemory(memoryBytes), index.Options{}
	ix, err := index.NewMemory(map[string][]byte{metaDialect: []byte(r.dialect), metaID: []byte(r.id)})
	if err != nil {
		return err
	}
	m := &Repository{
		dir: memoryDir, env: env, room: &room{}, index: ix, hashes: newHashings(), wake: make(chan struct{}, 1),
		dialect: r.dialect, id: r.id, created: r.created, inMemory: true, letGo: func() error { return nil },
	}
	if err = env.FS.Mkdir(memoryDir); err == nil {
		err = blobstore.Init(env.FS, memoryDir)
	}
	if err == nil {
		m.blobs, err = blobstore.Open(blobstore.Options{Dir: memoryDir, FS: env.FS, Rand: env.Rand, Now: env.Now})
	}
	if err != nil {
		return errors.Join(err, ix.Close())
	}
	m.Configure(Settings{}) // nothing that is not exempt, and nothing that can be restored
	m.start()
	if err := r.fillOverlay(ctx, m); err != nil {
		return errors.Join(err, m.close())
	}
	r.overlay = m
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
				r.env.Logger.Warn("a lock or session on the read-only file system is left out", "repository", filepath.Base(r.dir), "key", e.Key, "error", err)
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
	if e.Item.Size > maxExempt || m.index.Counters().Exempt+e.Item.Size > exemptTotal {
		return errMemoryFull
	}
	blob, err := r.blobs.Open(refOf(e.Item), e.Item.Size)
	if err != nil {
		return err
	}
	defer blob.Close()
	w, err := m.blobs.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(blob, 0, blob.Size())); err != nil {
		return err
	}
	label, err := encodeLabel(m.dialect, e.Key, e.Item, true)
	if err != nil {
		return err
	}
	ref, info, err := w.Commit(ctx, label)
	if err != nil {
		return err
	}
	if info.BLAKE3 != e.Item.BLAKE3 {
		return errors.Join(fmt.Errorf("%w: its bytes are not those that were stored", ErrCorrupt), m.blobs.Remove(ref))
	}
	item := e.Item
	item.Ref, item.Plan, item.Found, item.Flags = string(ref), 0, time.Time{}, 0
	if _, err := m.index.Apply(ctx, index.Put{Key: e.Key, Item: item, Exempt: true, Limit: -1, Now: item.Modified, TrashUntil: item.Modified}); err != nil {
		return err
	}
	return m.blobs.Settle(ref)
}
