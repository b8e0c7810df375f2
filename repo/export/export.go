package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/transfer"
)

// Options of an export. Repository, Layout and Dir are required.
type Options struct {
	Repository *repo.Repository
	Layout     string // one of package adopt
	Dir        string // absolute; nothing, or an empty directory, in one that exists, and on the same file system
	Copy       bool   // also what could be linked
	Verify     bool   // reads what was written, and compares it with the items

	// Pace is called before each read and each new name with the bytes that it stands for, and may wait. nil: nobody waits.
	Pace func(ctx context.Context, n int64) error

	FS       vfs.FS         // of Dir; nil means the operating system's
	Progress func(Progress) // called now and then, by one goroutine at a time; nil: by nobody
	Problem  func(Problem)  // called for each item that is not exported, likewise
}

// What an export tells while it runs.
type (
	Progress = transfer.Progress
	Problem  = transfer.Problem // an item that was not exported
	Amount   = transfer.Amount
)

// Report is what was exported, or would be.
type Report struct {
	Layout   string `json:"layout"`
	Dir      string `json:"dir"`
	Linked   Amount `json:"linked"`
	Cloned   Amount `json:"cloned"`
	Copied   Amount `json:"copied"`
	Resumed  Amount `json:"resumed"`  // of the copied: what an interrupted export had copied
	Verified Amount `json:"verified"` // read again, and found to be what was written
	LeftOut  int64  `json:"left_out"` // locks and sessions
	Problems int64  `json:"problems"` // items that were not exported
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Problem == nil {
		o.Problem = func(Problem) {}
	}
	return o
}

// modes are the permissions that the server of a layout gives its files and directories, with the usual umask.
func modes(layout string) (file, dir fs.FileMode) {
	switch layout {
	case adopt.LayoutBorgStore:
		return 0o600, 0o755 // it makes files by mkstemp
	case adopt.LayoutRestic:
		return 0o600, 0o700
	}
	return 0o644, 0o755
}

// check looks at what was asked for.
func (o Options) check() error {
	switch dialect := adopt.Dialect(o.Layout); {
	case dialect == "":
		return repo.Errorf(repo.ErrInvalid, "unknown layout %q: %s is known", o.Layout, adopt.Written)
	case dialect != o.Repository.Dialect():
		return repo.Errorf(repo.ErrInvalid, "the repository is one of %s: its items cannot be served by a server of the layout %s", o.Repository.Dialect(), o.Layout)
	case !filepath.IsAbs(o.Dir):
		return repo.Errorf(repo.ErrInvalid, "the directory has no absolute path")
	}
	return vacant(o.FS, o.Dir)
}

// Run exports the repository. When it returns nil, Dir is there with all items but those that Problem was told, and durable. After an error, or a crash at
// any time, there is no Dir, and Run can be repeated: it takes what was copied from Dir.partial; unless the sync of the directory above it has failed, or the removal of Dir.partial: Dir is complete then.
//
// Errors: repo.ErrInvalid for a layout that does not fit; of a Dir that is not empty; that another process exports into it; of Repository.Pin, and that the
// state is not pinned any more; repo.ErrNoSpace; ctx.Err(), else I/O.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	x := newRun(o)
	if err := o.check(); err != nil {
		return x.report, err
	}
	unlock, err := begin(o.FS, o.Dir)
	if err != nil {
		return x.report, err
	}
	defer unlock()
	if err = x.fill(ctx); err == nil {
		err = x.publish()
	}
	if err != nil {
		return x.report, x.abandon(err)
	}
	return x.report, finish(o.FS, o.Dir)
}

// run is one export.
type run struct {
	Options
	file, dir fs.FileMode
	pinned    *repo.Pinned
	links     bool // files can be linked, as far as is known
	near      bool // Dir lies on the disk of the repository
	cloner    transfer.Cloner
	dropped   atomic.Bool     // verify has removed a file
	dirs      map[string]bool // that were made

	mu       sync.Mutex // held for a look at the following, and over Progress and Problem
	report   Report
	progress Progress
}

func newRun(o Options) *run {
	x := &run{Options: o, report: Report{Layout: o.Layout, Dir: o.Dir}, dirs: make(map[string]bool)}
	x.file, x.dir = modes(o.Layout)
	return x
}

func (x *run) pin(ctx context.Context) (err error) {
	if x.pinned, err = x.Repository.Pin(ctx); err != nil {
		return err
	}
	x.pinned.SetPace(func(n int64) error { return x.pace(ctx, n) })
	x.progress.Step = "looking at the items"
	x.progress.ItemsTotal, x.progress.BytesTotal = x.pinned.Total()
	x.near = x.pinned.CanLink(filepath.Dir(x.Dir))
	x.links = !x.Copy && x.near
	return nil
}

// pace waits for the turn of n bytes.
func (x *run) pace(ctx context.Context, n int64) error {
	if x.Pace != nil {
		if err := x.Pace(ctx, n); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// path is where the file of a key is in the tree.
func (x *run) path(key string) string {
	return filepath.Join(tree(x.Dir), filepath.FromSlash(adopt.Path(x.Layout, key)))
}

// fill fills the tree with one state, and makes it durable.
func (x *run) fill(ctx context.Context) (err error) {
	if err := x.pin(ctx); err != nil {
		return err
	}
	defer x.pinned.Release()
	x.progress.Step = "exporting"
	if err := x.beginCopies(); err != nil {
		return err
	}
	if err := x.fits(); err != nil {
		return err
	}
	if err := x.mkdir(tree(x.Dir)); err != nil {
		return err
	}
	for _, dir := range adopt.Directories(x.Layout) {
		if err := x.mkdir(x.path(dir)); err != nil {
			return err
		}
	}
	workers, working := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	err = x.pinned.Each(func(e index.Entry) error {
		if err := working.Err(); err != nil {
			return err
		}
		path := x.path(e.Key)
		switch becomes, err := x.foresee(e); {
		case becomes == directory:
			return x.mkdir(path)
		case becomes == leftOut:
			x.leaveOut(e)
			return nil
		case becomes == problem:
			x.tell(e, err)
			return nil
		}
		if err := x.mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		workers.Go(func() error { return x.item(working, e, path) })
		return nil
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	if err != nil {
		return err
	}
	x.progress.Step = "writing what the file system has not written yet"
	x.Progress(x.progress)
	if err := x.sync(); err != nil {
		return err
	}
	if x.Verify {
		if err := x.verify(ctx); err != nil {
			return err
		}
	}
	return x.pinned.Err() // while it was, all of this was one state
}

// sync makes the tree durable.
func (x *run) sync() error {
	syncer, ok := x.FS.(vfs.FileSystemSyncer)
	if !ok {
		return errors.New("sync the file system: not possible")
	}
	if err := syncer.SyncFileSystem(tree(x.Dir)); err != nil {
		return fmt.Errorf("sync the file system: %w", vfs.WithoutPath(err))
	}
	return nil
}

// mkdir makes a directory, and those above it.
func (x *run) mkdir(path string) error {
	if x.dirs[path] {
		return nil
	}
	if path != tree(x.Dir) {
		if err := x.mkdir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := x.FS.Mkdir(path); err != nil {
		return transfer.Failed(err)
	}
	x.dirs[path] = true
	return x.setAttributes(path, x.dir, time.Time{})
}

// setAttributes gives what was made the attributes that the other server would have given it.
func (x *run) setAttributes(path string, mode fs.FileMode, modified time.Time) error {
	setter, ok := x.FS.(vfs.AttributeSetter)
	if !ok {
		return nil // tests
	}
	return transfer.Failed(setter.SetAttributes(path, mode, modified))
}

// item makes the file of one item, or tells why not.
func (x *run) item(ctx context.Context, e index.Entry, path string) error {
	if err := x.pace(ctx, transfer.PerName); err != nil {
		return err
	}
	if x.links {
		linked, err := x.pinned.Link(e, path)
		switch {
		case linked:
			x.done(&x.report.Linked, e)
			return nil
		case errors.Is(err, repo.ErrNotFound):
			x.tell(e, transfer.ErrMissing)
			return nil
		case err != nil:
			return transfer.Failed(err)
		}
	}
	how, err := x.copy(ctx, e, path)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		x.tell(e, transfer.ErrMissing)
	case errors.Is(err, repo.ErrCorrupt):
		x.tell(e, err)
	case err != nil:
		return err
	case how == byClone:
		x.done(&x.report.Cloned, e)
	case how == byEarlierCopy:
		x.done(&x.report.Copied, e, &x.report.Resumed)
	default:
		x.done(&x.report.Copied, e)
	}
	return nil
}

func (x *run) done(amount *Amount, e index.Entry, more ...*Amount) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, amount := range append(more, amount) {
		amount.Add(e.Item.Size)
	}
	x.passed(e.Item.Size)
}

func (x *run) leaveOut(e index.Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.report.LeftOut++
	x.passed(e.Item.Size)
}

// tell counts an item that is not exported, and says why.
func (x *run) tell(e index.Entry, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.report.Problems++
	x.Problem(Problem{Key: e.Key, Why: why.Error()})
	x.passed(e.Item.Size)
}

// Progress is told after so many items, or bytes.
const (
	tellItems = 1024
	tellBytes = 64 << 20
)

// passed counts an item that is done with. mu is held.
func (x *run) passed(bytes int64) {
	before := x.progress
	x.progress.Items++
	x.progress.Bytes += bytes
	if before.Items/tellItems != x.progress.Items/tellItems || before.Bytes/tellBytes != x.progress.Bytes/tellBytes {
		x.Progress(x.progress)
	}
}
