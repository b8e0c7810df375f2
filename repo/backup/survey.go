package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/spill"
	"packhouse/repo/transfer"
)

// hashes are those of items whose BLAKE3 the index does not know, by their refs: what was adopted from another server and that no scrub has read.
type hashes struct {
	mu    sync.Mutex
	table *spill.Table // guarded by mu
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

// survey finds out the hashes that the index does not know: from the list of the state before, or by reading. It counts what is in the trash, and wants
// space for what is to be copied.
func (x *run) survey(ctx context.Context) error {
	items, bytes := x.pinned.Total()
	x.meter.Begin("looking at the items", items, bytes)
	x.hashes = &hashes{table: x.pinned.NewTable()}
	if x.pinned.Unread() {
		if err := x.readHashes(); err != nil {
			return err
		}
	}
	var copies transfer.Amount
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	err := x.each(func(e index.Entry, removed *index.Removed) error {
		if err := ctx.Err(); err != nil || e.Dir {
			return err
		}
		if removed != nil && transfer.Unfit(e.Item) == nil {
			x.report.Trash.Add(e.Item.Size)
		}
		hash, err := x.hash(e)
		if err != nil || transfer.Unfit(e.Item) != nil {
			return err
		}
		if hash == "" && !x.dry {
			workers.Go(func() error { return x.read(e) })
		}
		there, err := x.has(hash, e.Item.Size)
		if !there && !(x.links && repo.InFile(e.Item)) {
			copies.Add(e.Item.Size)
		}
		return err
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	if err != nil {
		return err
	}
	return transfer.Fits(x.FS, x.existing(), copies)
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

// read finds out the hash of an item by reading it. One that is not what its name says, or is gone, has none.
func (x *run) read(e index.Entry) error {
	sum, err := x.pinned.BLAKE3(e)
	switch {
	case errors.Is(err, repo.ErrNotFound), errors.Is(err, repo.ErrCorrupt), errors.Is(err, repo.ErrDamaged):
		return nil
	case err != nil:
		return err
	}
	return x.hashes.put(e.Item.Ref, hex.EncodeToString(sum[:]))
}
