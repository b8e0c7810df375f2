package backup

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/spill"
	"packhouse/repo/transfer"
)

// hashes are those of items whose BLAKE3 the index does not know, by their refs: what was adopted from another server and that no scrub has read.
type hashes struct {
	mu    sync.Mutex
	table *spill.Table    // guarded by mu
	lost  map[string]bool // refs whose files are missing; guarded by mu

	wrong map[string]bool // hashes of files of the backup that are not what their names say; guarded by mu
}

// put records a hash.
func (h *hashes) put(ref, hash string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.table.Put(ref, []byte(hash))
}

// of is the hash of a ref; "": it is not known.
func (h *hashes) of(ref string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	value, err := h.table.Get(ref)
	return string(value), err
}

// lose records that the file of a ref is missing.
func (h *hashes) lose(ref string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost[ref] = true
}

func (h *hashes) isLost(ref string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost[ref]
}

func (h *hashes) isWrong(hash string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wrong[hash]
}

// todo are the items that have to be transferred, in the order of their refs, in which their bytes lie.
type todo struct {
	mu     sync.Mutex
	table  *spill.Table    // guarded by mu
	all    transfer.Amount // guarded by mu, as the next
	copies transfer.Amount // of these, what can be neither linked nor cloned, as far as is known
	whole  transfer.Amount // of these, what cannot be linked, as far as is known, and may be cloned
	first  index.Entry     // of whole: the largest
}

func (x *run) plan(e index.Entry, hash string) error {
	l := lineOf(e.Key, e.Item)
	l.Kind, l.BLAKE3 = kindItem, hash
	value, err := json.Marshal(l)
	if err != nil {
		return err
	}
	x.todo.mu.Lock()
	defer x.todo.mu.Unlock()
	x.todo.all.Add(e.Item.Size)
	switch {
	case x.Copy || !repo.InFile(e.Item):
		x.todo.copies.Add(e.Item.Size)
	case !x.links:
		if x.todo.whole.Add(e.Item.Size); e.Item.Size > x.todo.first.Item.Size {
			x.todo.first = e
		}
	}
	return x.todo.table.Put(e.Item.Ref, value)
}

// each calls fn for the items to be transferred, with their hashes.
func (t *todo) each(fn func(e index.Entry, hash string) error) error {
	return t.table.Each(func(ref string, value []byte) error {
		var l line
		if err := json.Unmarshal(value, &l); err != nil {
			return err
		}
		item, err := l.item()
		if err != nil {
			return err
		}
		item.Ref = ref
		return fn(index.Entry{Key: l.Key, Item: item}, l.BLAKE3)
	})
}

// survey finds out what has to be transferred, and the hashes that the index does not know: from the list of the state before, or by reading. It counts
// what the backup has, and wants space for what is to be copied.
func (x *run) survey(ctx context.Context) error {
	items, bytes := x.pinned.Total()
	removed, removedBytes := x.pinned.TotalRemoved()
	x.meter.Begin("looking at the items", items+removed, bytes+removedBytes)
	x.hashes = &hashes{table: x.pinned.NewTable(), lost: make(map[string]bool), wrong: make(map[string]bool)}
	x.todo = &todo{table: x.pinned.NewTable()}
	if x.pinned.Unread() {
		if err := x.readHashes(); err != nil {
			return err
		}
	}
	workers, ctx := x.workers(ctx)
	err := x.eachItem(func(e index.Entry, _ *index.Removed, hash string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case transfer.Unfit(e.Item) != nil:
			x.meter.Pass(e.Item.Size, nil) // the list tells of it
			workers.Go(func() error { return x.lookTwice(ctx, e, hash) })
		case hash == "" && !x.dry:
			workers.Go(func() error { return x.read(e) })
		default:
			return x.lookAt(e, hash)
		}
		return nil
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	if err != nil {
		return err
	}
	return x.fits()
}

// fits wants space for the copies. What can be cloned takes none; a dry run does not try whether it can.
func (x *run) fits() error {
	copies, whole := x.todo.copies, x.todo.whole
	if whole.Items > 0 && !x.dry {
		cloned, err := x.cloner.Try(x.FS, x.pinned, x.todo.first, filepath.Join(x.Dir, newDir, "trial"))
		if err != nil {
			return err
		}
		if cloned {
			whole = transfer.Amount{}
		}
	}
	copies.Items += whole.Items
	copies.Bytes += whole.Bytes
	return transfer.Fits(x.FS, x.existing(), copies)
}

// lookTwice reads what the backup has of an item that is damaged in the repository: where it is linked, it is the same file. What is wrong is set aside.
func (x *run) lookTwice(ctx context.Context, e index.Entry, hash string) error {
	there, err := x.has(hash, e.Item.Size)
	if err != nil || !there {
		return err
	}
	found, unread, err := hashFile(ctx, x.FS, filePath(x.Dir, hash), x.Pace)
	if err != nil || unread == nil && found == hash {
		return err
	}
	x.hashes.mu.Lock()
	x.hashes.wrong[hash] = true
	x.hashes.mu.Unlock()
	if x.dry {
		return nil
	}
	return x.setAside(hash)
}

// lookAt counts an item that the backup has; others are to be transferred.
func (x *run) lookAt(e index.Entry, hash string) error {
	there, err := x.has(hash, e.Item.Size)
	switch {
	case err != nil:
		return err
	case there:
		x.count(&x.report.Kept, e)
		return nil
	}
	x.meter.Pass(e.Item.Size, nil)
	return x.plan(e, hash)
}

// existing is the directory of the backup, or that in which it would be made.
func (x *run) existing() string {
	if _, err := x.FS.Stat(x.Dir); errors.Is(err, fs.ErrNotExist) {
		return filepath.Dir(x.Dir)
	}
	return x.Dir
}

// readHashes takes from the list of the state before what its refs were found to be. One that is damaged says nothing, and is replaced.
func (x *run) readHashes() error {
	list, err := openList(x.FS, x.Dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrList) {
		return nil
	}
	if err != nil {
		return err
	}
	defer list.Close() // it is only read
	if list.Repository != x.Repository.ID() {
		return nil // refs of another repository mean nothing here
	}
	for {
		l, err := list.next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, ErrList):
			return nil
		case err != nil:
			return err
		case !l.here():
			continue
		}
		ref, err := hex.DecodeString(l.Ref)
		if err == nil {
			err = x.hashes.put(string(ref), l.BLAKE3)
		}
		if err != nil {
			return err
		}
	}
}

// read finds out the hash of an item by reading it, and looks at it then. One that is not what its name says, or is gone, has none.
func (x *run) read(e index.Entry) error {
	sum, err := x.pinned.BLAKE3(e)
	switch {
	case errors.Is(err, repo.ErrNotFound), errors.Is(err, repo.ErrCorrupt):
		if errors.Is(err, repo.ErrNotFound) {
			x.hashes.lose(e.Item.Ref)
		}
		x.meter.Pass(e.Item.Size, nil) // the list tells of it
		return nil
	case err != nil:
		return err
	}
	hash := hex.EncodeToString(sum[:])
	if err := x.hashes.put(e.Item.Ref, hash); err != nil {
		return err
	}
	return x.lookAt(e, hash)
}
