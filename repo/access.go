package repo

import (
	"context"
	"errors"
	"io"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/keys"
	"packhouse/repo/policy"
)

// Principal is the sender of a request.
type Principal struct {
	Name        string              // for the log and for Item.Writer
	Address     string              // of the client, without its port; empty: not known, or none
	Permissions *policy.Permissions // nil: everything
	// Ceiling holds for this principal beside the limit of the repository: bytes that the repository may hold when
	// the principal adds to it, whoever stored them. nil: none.
	Ceiling *int64
	// Unguarded: the rules of Settings.Guard that refuse something do not hold for this principal.
	Unguarded bool
	// ClientOnly: administration is refused, whatever Permissions allow.
	ClientOnly bool
}

// Access is a repository as one principal may use it. Every method first checks that the key is valid, then the permission, and
// then carries out the request.
type Access struct {
	r *Repository
	p Principal
}

// As returns the repository as seen by p.
func (r *Repository) As(p Principal) *Access {
	if r.graceNotSet.Load() && policy.AddsOnly(p.Permissions) {
		r.implyGrace()
	}
	return &Access{r, p}
}

// Repository is what is accessed, for the server's own methods.
func (a *Access) Repository() *Repository { return a.r }

// Principal returns the principal whose permissions apply.
func (a *Access) Principal() Principal { return a.p }

// Usage is the usage of the repository, with the limit that applies to the principal.
func (a *Access) Usage() Usage {
	u := a.r.Usage()
	u.Limit, u.TrashLimit = lower(u.Limit, a.ceiling()), a.trashLimit()
	return u
}

// ceiling is negative when the principal has none.
func (a *Access) ceiling() int64 {
	if a.p.Ceiling == nil {
		return -1
	}
	return *a.p.Ceiling
}

// limit is what usage may come to by what the principal does; negative: no limit.
func (a *Access) limit() int64 {
	limit, _ := a.r.quota.limits()
	return lower(limit, a.ceiling())
}

// refusal tells with figures that n bytes more were refused.
func (a *Access) refusal(n int64) *QuotaError {
	e := a.r.quota.refusal(n)
	e.Limit = lower(e.Limit, a.ceiling())
	return e
}

// noReservation is a reservation of no bytes yet, for grow.
func (a *Access) noReservation() *quotaReservation {
	return &quotaReservation{q: &a.r.quota, ceiling: a.ceiling(), trash: a}
}

// reserveRestored sets n bytes more aside for what comes from the trash: what it adds here it takes from there. trashMu may be held.
func (a *Access) reserveRestored(n int64) (*quotaReservation, error) {
	res := a.noReservation()
	res.trash = nil
	if err := res.grow(n); err != nil {
		return nil, err
	}
	return res, nil
}

// reserve sets n bytes more aside. A write that adds nothing (n is 0 or negative) needs none.
func (a *Access) reserve(n int64) (*quotaReservation, error) {
	res := a.noReservation()
	if err := res.grow(n); err != nil {
		return nil, err
	}
	return res, nil
}

// May returns an error unless one of letters is granted on key.
func (a *Access) May(key, letters string) error { return a.p.May(key, letters) }

// Stat returns the item or directory at key; "" is the root. An item whose file is missing is ErrNotFound.
func (a *Access) Stat(ctx context.Context, key string) (index.Entry, error) {
	if err := a.mayStat(key); err != nil {
		return index.Entry{}, err
	}
	entry, err := a.r.read(key).find(ctx, key)
	if err != nil {
		return index.Entry{}, err
	}
	return entry, nil
}

func (a *Access) mayStat(key string) error {
	if key != "" {
		if err := keys.Check(key); err != nil {
			return err
		}
	}
	return a.May(key, "lr")
}

// Rows calls fn for the entries of a directory; see index.Rows and index.ListOptions for order and consistency. Items whose file is
// missing are left out. The first listing of packs waits for a sweep; see sweep.go.
func (a *Access) Rows(ctx context.Context, o index.ListOptions, fn func(*index.Row) error) error {
	o.Present = true
	return a.AllRows(ctx, o, fn)
}

// AllRows is Rows with the items whose file is missing, unless o says Present: for clients that would remove what only a lost item refers to.
func (a *Access) AllRows(ctx context.Context, o index.ListOptions, fn func(*index.Row) error) error {
	if o.Dir != "" {
		if err := keys.Check(o.Dir); err != nil {
			return err
		}
	}
	if err := a.May(o.Dir, "l"); err != nil {
		return err
	}
	if err := a.r.awaitNames(ctx, o.Dir); err != nil {
		return err
	}
	every := fn
	fn = func(row *index.Row) error {
		if a.r.rollback.active.Load() != nil {
			return a.r.Available()
		}
		return every(row)
	}
	if p := a.p.Permissions; o.Recursive && !p.AllowsBelow(o.Dir, "l") {
		all, key := fn, make([]byte, 0, keys.Max)
		fn = func(row *index.Row) error {
			if key = row.AppendKey(key[:0]); !p.AllowsBytes(key, "l") {
				return nil
			}
			return all(row)
		}
	}
	return a.r.translate(a.r.rows(ctx, o, fn))
}

// List is Rows with everything that the index has of each entry.
func (a *Access) List(ctx context.Context, o index.ListOptions, fn func(index.Entry) error) error {
	return a.Rows(ctx, o, func(row *index.Row) error {
		e, err := row.Entry()
		if err != nil {
			return err
		}
		return fn(e)
	})
}

// Each is List for an fn that uses the repository itself: see inPages.
func (a *Access) Each(ctx context.Context, o index.ListOptions, fn func(index.Entry) error) error {
	return inPages(func(last *index.Entry, fn func(index.Entry) error) error {
		if last != nil {
			o.After = last.Key
		}
		return a.List(ctx, o, fn)
	}, fn)
}

// Object is an item open for reading. It must be closed. Its bytes stay readable while it is open, also if the item is replaced or
// deleted.
type Object struct {
	Key  string
	Item index.Item
	*blobstore.Blob

	doubted bool // it is known to be damaged, and sections that are sound are given
}

// Section is Blob.Section. Of an item that is known to be damaged, all blocks of the section are checked before it is returned:
// ErrDamaged.
func (o *Object) Section(off, n int64) (io.Reader, error) {
	section, err := o.Blob.Section(off, n)
	if err != nil || !o.doubted {
		return section, err
	}
	if _, err := io.Copy(io.Discard, section); err != nil {
		return nil, err
	}
	return o.Blob.Section(off, n)
}

// Open opens the item at key.
func (a *Access) Open(ctx context.Context, key string) (*Object, error) {
	if err := keys.Check(key); err != nil {
		return nil, err
	}
	if err := a.May(key, "r"); err != nil {
		return nil, err
	}
	return a.r.read(key).open(ctx, key)
}

// OpenRange is Open for who wants to read a section that is a part of the item. An item that is known to be damaged can be opened if it
// has checksums, so that the sections that are sound can still be read.
func (a *Access) OpenRange(ctx context.Context, key string) (*Object, error) {
	object, err := a.Open(ctx, key)
	if !errors.Is(err, ErrDamaged) {
		return object, err
	}
	if object, err = a.r.read(key).openAny(ctx, key); err != nil {
		return nil, err
	}
	if object.doubted = object.Item.Flags&index.FlagDamaged != 0; object.doubted && !object.Checked() {
		_ = object.Close() // nothing was read
		return nil, errDamaged
	}
	return object, nil
}

// Sound reports whether n bytes from off can be read of an item that is known to be damaged: ErrDamaged if not.
func (a *Access) Sound(ctx context.Context, key string, off, n int64) error {
	object, err := a.OpenRange(ctx, key)
	if err != nil {
		return err
	}
	defer object.Close() // it was only read
	_, err = object.Section(off, n)
	return err
}

// open is openAny but for what is known to be damaged: that is served only while it is to be salvaged, as it lies.
func (r *Repository) open(ctx context.Context, key string) (*Object, error) {
	object, err := r.openAny(ctx, key)
	if err != nil || object.Item.Flags&index.FlagDamaged == 0 {
		return object, err
	}
	_ = object.Close() // nothing was read
	if !r.Salvaging() {
		return nil, errDamaged
	}
	blob, err := r.blobs.OpenAsIs(refOf(object.Item), object.Item.Size)
	if err != nil {
		return nil, r.translate(err)
	}
	r.env.Logger.Warn("damaged item is served with wrong bytes", "repository", r.Name(), "key", key)
	object.Blob = blob
	return object, nil
}

// openSound is open that knows no salvage.
func (r *Repository) openSound(ctx context.Context, key string) (*Object, error) {
	object, err := r.openAny(ctx, key)
	if err == nil && object.Item.Flags&index.FlagDamaged != 0 {
		_ = object.Close() // nothing was read
		return nil, errDamaged
	}
	return object, err
}

// openAny finds the item and its blob. Between the two the item may be
// replaced and its old blob reclaimed; then the index has a newer reference. Of a file that is cut short it is what there
// is: such an item has FlagDamaged, and the size of that.
func (r *Repository) openAny(ctx context.Context, key string) (*Object, error) {
	last := ""
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		entry, err := r.index.Get(key)
		if errors.Is(err, index.ErrNotFound) {
			entry, err = r.recall(ctx, key)
		}
		if err != nil {
			return nil, r.translate(err)
		}
		if entry.Dir {
			return nil, ErrIsDir
		}
		blob, err := r.blobs.Open(refOf(entry.Item), infoOf(entry.Item))
		switch {
		case err == nil:
			entry = r.returned(ctx, entry)
			blob.OnDoubt(func() ([]byte, error) { return r.recheck(ctx, entry) })
			return &Object{Key: key, Item: entry.Item, Blob: blob}, nil
		case errors.Is(err, blobstore.ErrCorrupt):
			return r.openCut(ctx, entry, err)
		case !errors.Is(err, blobstore.ErrNotFound):
			return nil, r.translate(err)
		}
		if last == entry.Item.Ref {
			if err := r.Attached(); err != nil {
				return nil, err
			}
			return nil, r.missing(ctx, entry)
		}
		last = entry.Item.Ref
	}
}

// openCut opens what there is of a blob that is not as it was stored, and marks the item. cause is what is wrong: the file has not the
// length that it should have, or the log has other bytes.
func (r *Repository) openCut(ctx context.Context, entry index.Entry, cause error) (*Object, error) {
	if err := r.Attached(); err != nil {
		return nil, err // of bytes that were taken away nothing is known
	}
	blob, err := r.blobs.OpenAsIs(refOf(entry.Item), entry.Item.Size)
	if err != nil && !errors.Is(err, blobstore.ErrCorrupt) {
		return nil, r.translate(err)
	}
	if entry.Item.Flags&(index.FlagDamaged|index.FlagMissing) != index.FlagDamaged {
		r.env.Logger.Error("item is damaged", "repository", r.Name(), "key", entry.Key, "error", cause)
		r.setMarks(context.WithoutCancel(ctx), []marking{{entry: entry, set: index.FlagDamaged, clear: index.FlagMissing}})
	}
	if err != nil {
		return nil, errDamaged // nothing is left of it
	}
	entry.Item.Flags |= index.FlagDamaged
	entry.Item.Size = blob.Size()
	return &Object{Key: entry.Key, Item: entry.Item, Blob: blob}, nil
}
