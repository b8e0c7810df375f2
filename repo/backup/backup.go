package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/keys"
	"packhouse/repo/spill"
	"packhouse/repo/transfer"
)

// Options of a backup. Repository and Dir are required.
type Options struct {
	Repository *repo.Repository
	Dir        string // absolute, and outside of the data directory: a backup of the same repository, nothing, or an empty directory
	Copy       bool   // also what could be linked or cloned
	// Verify reads all files of the backup first. What is not what its name says is set aside, and transferred again.
	Verify bool
	// TakeOver makes the directory the backup of this repository, which was restored from it.
	TakeOver bool

	// Pace is called before each read, each write of a copy, and each new name (for transfer.PerName), with the bytes, and may wait. nil: nobody waits.
	Pace func(ctx context.Context, n int64) error

	FS       vfs.FS                  // of Dir; nil means the operating system's
	Progress func(transfer.Progress) // called now and then, by one goroutine at a time; nil: by nobody
	Problem  func(transfer.Problem)  // called for each item with a problem, likewise
}

// Report is what a Run has done, or would do.
type Report struct {
	Dir string    `json:"dir"`
	At  time.Time `json:"at"` // when the state was taken

	// Items of the state, with those in the trash, by where their bytes come from.
	Linked transfer.Amount `json:"linked"`
	Cloned transfer.Amount `json:"cloned"` // share the blocks of the repository's file until one of the two is written
	Copied transfer.Amount `json:"copied"`
	Kept   transfer.Amount `json:"kept"` // that the backup had

	Trash    transfer.Amount `json:"trash"`    // part of the above: what can be restored from the trash
	Removed  transfer.Amount `json:"removed"`  // files that nothing refers to any more
	LeftOut  int64           `json:"left_out"` // locks and sessions
	Problems int64           `json:"problems"` // items that are not in the backup
	Saved    int64           `json:"saved"`    // items that are damaged or missing in the repository, and whose bytes the backup has
	Damaged  int64           `json:"damaged"`  // files of the backup that Verify has found damaged; what the repository has of them was transferred again
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	return o
}

var errRelative = repo.Errorf(repo.ErrInvalid, "the directory has no absolute path")

// Run brings a backup up to the state that the repository has now. When it returns nil, that state is in Dir, durably, but for the items that
// Problem was told as not in it. After an error, or a crash at any time, Dir has the state that it had before, or the new one, and Run can be
// repeated: what was transferred is kept.
//
// Errors: of a Dir that is not a backup of this repository; repo.ErrBusy while another process works on it, and of Repository.Pin; that the state is not
// pinned any more; repo.ErrNoSpace; ctx.Err(), else I/O.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	x := newRun(o)
	if !filepath.IsAbs(o.Dir) {
		return x.report, errRelative
	}
	unlock, err := begin(o)
	if err != nil {
		return x.report, err
	}
	defer unlock()
	defer x.close()
	if o.Verify {
		err = x.verify(ctx)
	}
	if err == nil {
		err = x.write(ctx)
	}
	if err != nil {
		return x.report, err
	}
	if err := x.sweep(ctx); err != nil {
		return x.report, fmt.Errorf("the backup is complete; what it does not need any more could not be removed: %w", err)
	}
	return x.report, nil
}

// Look says what Run would do, as far as the index knows, and changes nothing. Errors: as Run, before it makes anything.
func Look(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	x := newRun(o)
	if !filepath.IsAbs(o.Dir) {
		return x.report, errRelative
	}
	if _, err := mayWrite(o); err != nil {
		return x.report, err
	}
	if err := x.pin(ctx); err != nil {
		return x.report, err
	}
	defer x.pinned.Release()
	defer x.close()
	x.dry = true
	err := x.survey(ctx)
	if err == nil {
		x.report.Kept = transfer.Amount{} // and all is looked at in its order, also what is damaged
		err = x.eachItem(x.foretell)
	}
	return x.report, err
}

// close gives up the tables; their files have no names any more.
func (x *run) close() {
	if x.hashes != nil {
		_ = x.hashes.table.Close()
		_ = x.todo.table.Close()
	}
	if x.needed != nil {
		_ = x.needed.Close()
	}
}

// run is one backup.
type run struct {
	Options
	pinned *repo.Pinned
	links  bool // files can be linked, as far as is known
	cloner transfer.Cloner
	dry    bool // nothing is changed, nor read to find out what it is

	hashes *hashes          // of items that are not known by the index
	todo   *todo            // what is to be transferred
	needed *spill.Table     // the hashes that the list names; its values are empty
	shards [256]bool        // directories below files that are there
	failed map[string]error // refs whose bytes could not be had, and why

	meter  transfer.Meter
	report Report // its numbers change while meter counts
}

func newRun(o Options) *run {
	return &run{
		Options: o, report: Report{Dir: o.Dir}, failed: make(map[string]error), meter: transfer.Meter{Report: o.Progress, Problem: o.Problem},
	}
}

func (x *run) pin(ctx context.Context) (err error) {
	if x.pinned, err = x.Repository.Pin(ctx); err != nil {
		return err
	}
	if x.Pace != nil {
		x.pinned.SetPace(func(n int64) error { return x.Pace(ctx, n) })
	}
	x.report.At = x.Repository.Now().UTC()
	if err := x.pinned.ReadTrash(); err != nil {
		x.pinned.Release()
		return err
	}
	dir := x.Dir
	if _, err := x.FS.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(dir)
	}
	x.links = !x.Copy && x.pinned.CanLink(dir)
	return nil
}

// write transfers one state, and makes it that of the backup.
func (x *run) write(ctx context.Context) (err error) {
	if err := x.pin(ctx); err != nil {
		return err
	}
	defer x.pinned.Release()
	if err := x.survey(ctx); err != nil {
		return err
	}
	if err := x.transfer(ctx); err != nil {
		return err
	}
	x.meter.Step("writing what the file system has not written yet")
	if err := transfer.SyncFileSystem(x.FS, x.Dir); err != nil {
		return err
	}
	if err := x.pinned.Err(); err != nil { // while it was, all of this was one state
		return err
	}
	return x.writeList()
}

// each calls fn for what is in the trash, and then for the directories and items of the state, without locks and sessions.
func (x *run) each(fn func(e index.Entry, removed *index.Removed) error) error {
	err := x.pinned.EachRemoved(func(row index.Removed) error {
		if keys.Coordination(row.Key) {
			return nil
		}
		return fn(index.Entry{Key: row.Key, Item: row.Item}, &row)
	})
	if err != nil {
		return err
	}
	x.report.LeftOut = 0
	return x.pinned.Each(func(e index.Entry) error {
		if !e.Dir && keys.Coordination(e.Key) {
			x.report.LeftOut++
			return nil
		}
		return fn(e, nil)
	})
}

// eachItem calls fn for each item with its hash; "": that is not known, because it was never found sound.
func (x *run) eachItem(fn func(e index.Entry, removed *index.Removed, hash string) error) error {
	return x.each(func(e index.Entry, removed *index.Removed) error {
		if e.Dir {
			return nil
		}
		hash, err := x.hash(e)
		if err != nil {
			return err
		}
		return fn(e, removed, hash)
	})
}

// hash is the BLAKE3 of an item, and the name of its file; "" if nobody knows it.
func (x *run) hash(e index.Entry) (string, error) {
	if e.Item.Flags&index.FlagUnverified != 0 {
		return x.hashes.of(e.Item.Ref)
	}
	return hex.EncodeToString(e.Item.BLAKE3[:]), nil
}

// foretell counts an item as what would become of it.
func (x *run) foretell(e index.Entry, removed *index.Removed, hash string) error {
	there, err := x.has(hash, e.Item.Size)
	if err != nil {
		return err
	}
	unfit := transfer.Unfit(e.Item)
	switch {
	case unfit != nil && removed != nil:
	case unfit != nil:
		x.tell(e, there, unfit)
		return nil
	case there:
		x.count(&x.report.Kept, e)
	case x.links && repo.InFile(e.Item):
		x.count(&x.report.Linked, e)
	default:
		x.count(&x.report.Copied, e)
	}
	if removed != nil && unfit == nil {
		x.report.Trash.Add(e.Item.Size)
	}
	return nil
}

// has tells whether the backup has the file of a hash, with that size; of "" it has none. What was set aside is not there any more, and may be again.
func (x *run) has(hash string, size int64) (bool, error) {
	if hash == "" || x.hashes.isWrong(hash) && x.dry {
		return false, nil
	}
	return has(x.FS, x.Dir, hash, size)
}

func (x *run) count(amount *transfer.Amount, e index.Entry) {
	x.meter.Pass(e.Item.Size, func() { amount.Add(e.Item.Size) })
}

// tell counts an item that is damaged or missing in the repository, and says so. saved: the backup has its bytes all the same.
func (x *run) tell(e index.Entry, saved bool, why error) {
	if saved {
		x.meter.Tell(e.Key, e.Item.Size, fmt.Errorf("%w; the backup has it from before", why), func() { x.report.Saved++ })
		return
	}
	x.meter.Tell(e.Key, e.Item.Size, why, func() { x.report.Problems++ })
}
