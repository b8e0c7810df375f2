package repo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/keys"
	"packhouse/repo/layout"
)

// The names of the meta values with the limits of the repository itself; bytes, decimal; absent: none.
const (
	metaQuota      = "quota"
	metaTrashQuota = "trash quota"
)

// DefaultReserve is the default of Settings.Reserve: space for the index to grow while items are deleted, and for compacting a pack
// or two.
const DefaultReserve = 64 << 20

// Settings are the settings of one repository that an administrator chooses.
type Settings struct {
	Quota int64 // bytes; negative: no limit
	// TrashQuota is how many bytes the trash may hold where clients add to it, or to the repository; negative: no limit, 0:
	// as many as the quota, and no limit where there is none.
	TrashQuota int64
	// Grace is how long removed items can be restored; 0: not at all, negative: nobody has set it, and it is ImpliedGrace where
	// Restricted is or was set, else 0.
	Grace time.Duration
	// Restricted: there are principals that may add backups and not delete any.
	Restricted bool
	// Protect is how long nothing that was removed gives way to TrashQuota, at least DefaultProtect.
	Protect time.Duration
	Guard   Guard
	Reserve int64 // bytes of disk that uploads leave free for deleting and compacting
	// CompactGrace is how long packs are kept that a client's compaction has removed, or Grace, if that is longer;
	// at least an hour, 0: DefaultCompactGrace.
	CompactGrace time.Duration
	// CompactYoung is the age below which a pack is not removed as unused by a client of which it is not known
	// when it read the index; 0: DefaultCompactYoung.
	CompactYoung time.Duration
}

// Environment has the external dependencies of repositories. Its zero value works.
type Environment struct {
	FS     vfs.FS           // nil means the operating system's
	Now    func() time.Time // nil means time.Now
	Rand   io.Reader        // nil means crypto/rand
	Logger *slog.Logger     // nil means silence
	Index  index.Options    // for tests that fail commits
	// Sweep is how often the names of the files are compared with the index in the background; 0: never.
	Sweep time.Duration
	// Small is the most bytes of an item that is stored in the log, with its row, and not in a file; at most index.MaxPayload. 0: none is.
	Small int64
	// TableMemory is how many bytes of rows a rollback, or a restore of many items, sorts in memory; what is more is in a temporary file. 0: 8 MiB.
	TableMemory int
	// Unchecked leaves out the checks of items that are read from files, but for the scrub: for file systems that check what they read.
	Unchecked bool
	// Here tells whether what is below the directory is what was there when it was opened, with an error of this package
	// if not. It is asked before anything is called missing. nil: the directories of blobs alone are looked at.
	Here func() error
}

// WithDefaults sets the fields that are nil.
func (e Environment) WithDefaults() Environment {
	if e.FS == nil {
		e.FS = vfs.OS()
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Rand == nil {
		e.Rand = rand.Reader
	}
	if e.Logger == nil {
		e.Logger = slog.New(slog.DiscardHandler)
	}
	return e
}

// indexOptions are those of an index on fsys, unless the options name another file system.
func (e Environment) indexOptions(fsys vfs.FS) index.Options {
	o := e.Index
	if o.FS == nil {
		o.FS = fsys
	}
	return o
}

// Repository is one open repository. Its methods are safe for concurrent use. Requests of clients go through As; the methods here are
// for the server itself.
type Repository struct {
	dir      string
	env      Environment
	index    *index.Index
	blobs    *blobstore.Store
	quota    quota
	disk     *diskLedger // of its file system
	memory   *memoryDisk // of the whole data directory
	hashes   *hashings   // by reference and algorithm
	rechecks *hashings   // by reference; not among hashes, which wait for them
	dialect  string
	// fileSystem is what FileSystem returns.
	fileSystem string
	commit     *commitKeys // of the dialect; nil: none
	id         string
	created    time.Time

	compactions compactions
	exempt      exemptShares
	recorded    recordedBackups
	changes     changeClock

	compactGrace atomic.Int64 // nanoseconds
	compactYoung atomic.Int64 // nanoseconds

	grace   atomic.Int64 // nanoseconds
	protect atomic.Int64 // nanoseconds
	// graceNotSet: there is no grace time because none is set, nor implied until now.
	graceNotSet atomic.Bool
	reserve     atomic.Int64 // bytes
	gone        atomic.Bool  // destroyed: every error becomes ErrNoRepository
	mend        string       // the command that makes a damaged index anew

	loss         atomic.Pointer[LossError] // nil: none
	noticed      atomic.Int64              // items that requests found missing since the last sweep
	salvage      atomic.Int64              // until then damaged items are served, Unix ms; 0: they are not
	sweeps       sweeps
	repairs      repairs
	rollback     rollback
	coverage     coverage
	growth       growth
	history      atomic.Pointer[historyMark] // nil: what is stored holds
	historyMu    sync.Mutex                  // held while rows of the history are forgotten, so that it begins never earlier than it did; before rollback.gate
	guard        guard
	snapshots    snapshotKeys // of the dialect
	readOnlyDisk bool         // its file system takes no writes
	overlay      *overlay     // what clients store nevertheless; nil unless readOnlyDisk
	inMemory     bool         // it is an overlay

	displaced atomic.Bool  // given up: it is not what lies under its name
	info      fs.FileInfo  // of dir as it was opened; nil: not known
	letGo     func() error // of dir

	failed atomic.Pointer[error] // the first sync of a plan or a snapshot that failed, sticky

	// trashMu is held over one round of the reclaimer and over one Restore: an
	// item whose blob is being unlinked must not come back.
	trashMu sync.Mutex

	pinned atomic.Pointer[Pinned] // nil: no state is; set while trashMu is held

	tables atomic.Int64 // counts the tables that were made, for the names of their files

	snapshotMu sync.Mutex // held over one Snapshot
	vacuum     vacuum

	trashSpace trashSpace
	thinSeed   maphash.Seed // of the parts of the trash, see thinVersions
	short      shortages
	small      int64 // bytes of an item that gets no file

	// settingsMu is held over one ChangeLimits and one Configure, which reads what that stores.
	settingsMu sync.Mutex
	configured limits   // of settings; guarded by settingsMu
	settings   Settings // guarded by settingsMu

	stop       context.CancelFunc // of what runs in the background: the reclaimer, the sweeps
	background sync.WaitGroup
	wake       chan struct{} // the reclaimer has work; capacity 1
}

// Create creates the files of a repository in dir, which exists, for clients of dialect. The rename of the index to its final name is
// the commit point: after a crash before it there is no repository, and creating it again succeeds.
func Create(env Environment, dir, dialect string) error {
	env = env.WithDefaults()
	id := make([]byte, 16)
	if _, err := io.ReadFull(env.Rand, id); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if err := blobstore.Init(env.FS, dir); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	path := filepath.Join(dir, layout.IndexFile)
	if err := index.CreateWith(path, layout.FirstMeta(dialect, id, env.Now()), env.indexOptions(env.FS)); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	return nil
}

var (
	errElsewhere = fmt.Errorf("%w: another process has the repository open", ErrBusy)
	// errStopping answers requests that come while the server closes its repositories.
	errStopping = fmt.Errorf("%w: the server is stopping", ErrBusy)
)

// OpenOptions of Open. All except Environment, FileSystem and Settings are required.
type OpenOptions struct {
	Environment
	Dir        string
	Disk       *Disk
	FileSystem string // see Repository.FileSystem
	Mend       string // the command that makes a damaged index anew, for errors and logs
	Settings   Settings
}

// Open opens a repository: its cost depends on what a crash left unfinished, not on what the repository holds. It must be closed.
//
// Errors: ErrNotFound when there is no index, ErrBusy when another process has it open, an *IndexError when it is damaged, a
// *DetachedError for what this process may not read or what is missing of the directories of blobs, else I/O.
func Open(ctx context.Context, o OpenOptions) (*Repository, error) {
	o.Environment = o.Environment.WithDefaults()
	r, err := open(ctx, o)
	if errors.Is(err, index.ErrCorrupt) {
		return nil, &IndexError{Err: err, Mend: o.Mend, opening: true}
	}
	return r, err
}

func open(ctx context.Context, o OpenOptions) (*Repository, error) {
	dir, env := o.Dir, o.Environment
	fsys, letGo, err := holdOn(env.FS, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = index.ErrNotFound // as of the file in it
	case errors.Is(err, fs.ErrPermission):
		return nil, Unreadable(dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	env.FS = fsys
	readOnly := OnReadOnlyDisk(fsys, dir)
	env.Index = env.indexOptions(fsys)
	env.Index.ReadOnly = readOnly
	ix, err := index.Open(filepath.Join(dir, layout.IndexFile), env.Index)
	if errors.Is(err, index.ErrLocked) {
		return nil, errors.Join(errElsewhere, letGo())
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(Unreadable(filepath.Join(dir, layout.IndexFile), err), letGo())
	}
	if errors.Is(err, index.ErrCorrupt) {
		if own, statErr := fsys.Stat(dir); statErr == nil && moved(own, dir) {
			err = errMovedMeanwhile // and the log is not that of the file
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open repository: %w", err), letGo())
	}
	r := &Repository{
		dir: dir, mend: o.Mend, env: env, disk: o.Disk.ledger(o.FileSystem), fileSystem: o.FileSystem, memory: &o.Disk.memory, index: ix, letGo: letGo, readOnlyDisk: readOnly,
		hashes: newHashings(), rechecks: newHashings(), wake: make(chan struct{}, 1), thinSeed: maphash.MakeSeed(),
	}
	r.sweeps.init()
	r.vacuum.short = make(chan struct{}, 1)
	r.repairs.init()
	r.rollback.init()
	if r.info, err = inItsPlace(fsys, dir, ix); err == nil {
		err = r.load(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open repository: %w", err), ix.Close(), letGo())
	}
	r.quota.join(&o.Disk.total)
	r.Configure(o.Settings)
	if readOnly {
		r.stop = func() {}
		close(r.sweeps.first) // nothing could be marked: each file is looked at when it is asked for
		if err := r.openOverlay(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open repository: %w", err), r.Close())
		}
		return r, nil
	}
	r.stop = func() {} // nothing goes on yet
	if err := r.beginLeftRollback(); err != nil {
		return nil, errors.Join(fmt.Errorf("open repository: %w", err), r.Close())
	}
	r.disk.enlist(r)
	r.start()
	return r, nil
}

// start lets what goes on in the background begin.
func (r *Repository) start() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.background.Go(func() { r.reclaim(ctx) })
	r.background.Go(func() { r.vacuumWhenShort(ctx) })
	r.background.Go(func() { r.repairMarked(ctx) })
	r.background.Go(func() { r.finishRollbacks(ctx) })
	r.startSweeps(ctx)
}

// load reads the meta values and settles what a crash left in the blob store.
func (r *Repository) load(ctx context.Context) error {
	values := make(map[string]string)
	for _, name := range []string{layout.MetaDialect, layout.MetaID, layout.MetaCreated} {
		value, err := r.index.Meta(name)
		if err != nil {
			return err
		}
		values[name] = string(value)
	}
	created, err := strconv.ParseInt(values[layout.MetaCreated], 10, 64)
	if err != nil {
		return fmt.Errorf("meta value %s: %w", layout.MetaCreated, index.ErrCorrupt)
	}
	r.dialect, r.id, r.created = values[layout.MetaDialect], values[layout.MetaID], time.UnixMilli(created)
	r.commit, r.snapshots = commitKeysOf(r.dialect), snapshotsOf(r.dialect)

	o := blobstore.Options{Dir: r.dir, FS: r.env.FS, Rand: r.env.Rand, Now: r.env.Now, Unchecked: r.env.Unchecked}
	if r.index.HasLog() {
		o.Log, o.Small = layout.Payloads{Index: r.index}, min(r.env.Small, index.MaxPayload)
	}
	r.small = o.Small
	r.blobs, err = blobstore.Open(o)
	if err != nil {
		return r.translate(err)
	}
	if r.readOnlyDisk {
		return r.loadCounters()
	}
	shards, err := r.blobs.MissingShards()
	switch {
	case err != nil:
	case len(shards) > 0:
		r.sweeps.unsettled = true
		_ = r.suspend(&LossError{Shards: shards, Total: r.index.Counters().Items})
	default:
		err = r.settleIncoming(ctx)
	}
	if err != nil {
		return errors.Join(err, r.blobs.Close())
	}
	salvage, err := r.index.Meta(metaSalvage)
	if err != nil {
		return errors.Join(err, r.blobs.Close())
	}
	r.setSalvage(salvage)
	r.sweepIndex()
	return r.loadCounters()
}

// loadCounters ends load.
func (r *Repository) loadCounters() (err error) {
	if err := r.loadCoverage(); err != nil {
		return errors.Join(err, r.blobs.Close())
	}
	if _, err := r.ownLimits(limits{}); err != nil {
		return errors.Join(err, r.blobs.Close())
	}
	if err := r.loadGuard(); err != nil {
		return errors.Join(err, r.blobs.Close())
	}
	counters := r.index.Counters()
	r.quota.used = counters.Counted()
	r.compactions.keys = halvesOf[r.dialect]
	if r.commit != nil {
		total, _, err := r.index.CommitTotal(r.commit.class)
		if err != nil {
			return errors.Join(err, r.blobs.Close())
		}
		r.quota.commitUsed = total
	}
	return nil
}

// settleIncoming settles or removes the blobs whose upload a crash ended. An index that is damaged does not say which of them
// it has.
func (r *Repository) settleIncoming(ctx context.Context) error {
	if damage := r.index.Damage(); damage != nil {
		r.env.Logger.Error("the index is damaged; unfinished uploads are not removed", "repository", r.Name(), "error", damage)
		return nil
	}
	removed, err := r.blobs.Sweep(ctx, func(ref blobstore.Ref) (bool, error) {
		_, ok, err := r.index.HasRef(string(ref))
		return ok, err
	})
	if removed > 0 {
		r.env.Logger.Info("removed unfinished uploads", "repository", r.Name(), "count", removed)
	}
	return err
}

// sweepIndex removes what a crash left of the making of an index, of a rebuild, or of an adoption that was complete. Who holds the index is alone with it.
func (r *Repository) sweepIndex() {
	entries, err := r.env.FS.ReadDir(r.dir)
	for _, entry := range entries {
		name := entry.Name()
		if err == nil && (strings.HasPrefix(name, layout.IndexFile+".new-") || strings.HasPrefix(name, layout.RebuiltFile) || strings.HasPrefix(name, layout.AdoptingFile)) {
			err = r.env.FS.Remove(filepath.Join(r.dir, name))
		}
	}
	if err != nil {
		r.env.Logger.Warn("could not remove an unfinished index; the next start removes it", "repository", r.Name(), "error", err)
	}
}

// Configure changes the settings while the repository is in use. Limits of the repository's
// own (SetQuota, SetTrashQuota) win over those of settings.
func (r *Repository) Configure(settings Settings) {
	r.settingsMu.Lock()
	defer r.settingsMu.Unlock()
	r.settings = settings
	r.configured = limits{settings.Quota, settings.TrashQuota}
	if err := r.useLimits(); err != nil { // the limits stay as they are: none would be a guess
		r.env.Logger.Error("could not read the quota from the index", "repository", r.Name(), "error", err)
	}
	r.guard.rules.Store(&settings.Guard)
	r.guard.last.forget()
	r.setGrace(settings)
	r.protect.Store(int64(max(DefaultProtect, settings.Protect, settings.Guard.MinAge)))
	r.reserve.Store(settings.Reserve)
	r.compactGrace.Store(int64(cmp.Or(settings.CompactGrace, DefaultCompactGrace)))
	r.compactYoung.Store(int64(cmp.Or(settings.CompactYoung, DefaultCompactYoung)))
	r.trashSpace.forget()
}

// Dialect is the protocol the repository was created with.
func (r *Repository) Dialect() string { return r.dialect }

// ID is 32 hex digits, given at creation.
func (r *Repository) ID() string { return r.id }

// Created is when the repository was created.
func (r *Repository) Created() time.Time { return r.created }

// FileSystem names the file system that the repository lies on, for those who share work among repositories: what lies on another
// must not wait for it. "": not known.
func (r *Repository) FileSystem() string { return r.fileSystem }

// Mend is the command that rebuilds a damaged index.
func (r *Repository) Mend() string { return r.mend }

// Displace marks the repository as one that is no longer at its path: running and later requests fail with ErrDetached. It must still
// be closed.
func (r *Repository) Displace() { r.displaced.Store(true) }

// Info describes the repository's directory as it was opened; nil: not known.
func (r *Repository) Info() fs.FileInfo { return r.info }

// IndexLost returns why the index cannot be used until the repository is opened again; nil: it can be used.
func (r *Repository) IndexLost() error { return r.index.Lost() }

// Destroy renames the index, so that the directory is no longer a repository, and closes the repository: running requests fail with
// ErrNoRepository. The renaming is durable when the caller has synced the directory; the caller also removes the other files. After
// an error it is closed too.
func (r *Repository) Destroy() error {
	r.gone.Store(true)
	// Before the file lock is given up: another process that waits for it then finds no index.
	err := r.env.FS.Rename(filepath.Join(r.dir, layout.IndexFile), filepath.Join(r.dir, layout.DestroyedFile))
	if closeErr := r.Close(); closeErr != nil {
		r.env.Logger.Warn("could not close a repository that is being destroyed", "repository", r.Name(), "error", closeErr)
	}
	return err
}

// Close stops the background goroutines and closes the files. Running requests fail.
func (r *Repository) Close() error {
	r.stop()
	r.hashes.close()
	r.rechecks.close()
	r.background.Wait()
	r.disk.dismiss(r)
	r.quota.leave()
	err := errors.Join(r.index.Close(), r.blobs.Close(), r.letGo())
	if r.overlay != nil {
		err = errors.Join(err, r.overlay.Close())
	}
	return err
}

// apply is the way into the index for all that clients and administrators change.
func (r *Repository) apply(ctx context.Context, muts ...index.Mutation) ([]index.Result, error) {
	r.rollback.gate.RLock()
	defer r.rollback.gate.RUnlock()
	if err := errors.Join(r.Available(), r.writable()); err != nil {
		return nil, err
	}
	mark := r.history.Load()
	if mark == nil {
		return r.record(ctx, muts...)
	}
	results, err := r.record(ctx, append(slices.Clone(muts), mark.mutations()...)...)
	if err == nil {
		r.history.CompareAndSwap(mark, nil)
		results = results[:len(muts)]
	}
	return results, err
}

// record applies mutations of the index, as apply does, but also when writes of blobs have failed and everything else is
// refused: a job that fails because of that must be recorded as failed.
// From the moment the group is queued it must not be abandoned: the blobs are durable and the outcome decides
// whether they stay.
func (r *Repository) record(ctx context.Context, muts ...index.Mutation) ([]index.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results, err := r.index.Apply(context.WithoutCancel(ctx), muts...)
	return results, r.translate(err)
}

// Durable returns nil if everything that was read from the index until now is on stable storage. It is called before bytes are removed
// because of what was read, or a request is answered as done.
func (r *Repository) Durable() error {
	if err := r.index.Failed(); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return nil
}

// writable refuses with ErrReadOnly when index or blobs have failed, or a sync of the files beside them. They are on one
// disk: after an error of any nothing more is asked of it, and a body that could not become an item is not stored. Nor is
// anything stored or removed while so much is missing that it may be another disk: ErrLoss.
func (r *Repository) writable() error {
	switch {
	case r.displaced.Load():
		return errDisplaced
	case r.readOnlyDisk:
		return ErrReadOnlyDisk
	}
	if err := r.lost(); err != nil {
		return err
	}
	if err := r.Durable(); err != nil {
		return err
	}
	if err := r.blobs.Failed(); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if err := r.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// translate gives errors of the lower packages their name here.
func (r *Repository) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case r.gone.Load():
		return ErrNoRepository
	case errors.Is(err, index.ErrMoved), r.displaced.Load() && (errors.Is(err, index.ErrClosed) || errors.Is(err, blobstore.ErrClosed) || errors.Is(err, fs.ErrClosed)):
		return fmt.Errorf("%w: %w", ErrDetached, err)
	case errors.Is(err, index.ErrReadOnly):
		return ErrReadOnlyDisk
	case errors.As(err, new(*blobstore.DirError)):
		return dirError(r.dir, err)
	case errors.Is(err, index.ErrFailed), errors.Is(err, blobstore.ErrFailed):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, index.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, index.ErrCorrupt):
		return &IndexError{Err: err, Mend: r.mend}
	case errors.Is(err, index.ErrInvalid):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case errors.Is(err, index.ErrClosed), errors.Is(err, blobstore.ErrClosed), errors.Is(err, fs.ErrClosed):
		return errStopping
	case errors.Is(err, fs.ErrNotExist):
		if away := r.Attached(); away != nil {
			return fmt.Errorf("%w: %w", away, err)
		}
	case vfs.NoSpace(err) && !errors.Is(err, ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// Health is the state of a repository.
type Health struct {
	ReadOnly     bool   // it takes no writes
	Silent       bool   // the disk has not answered a write for long
	IndexDamaged bool   // what does not need the damaged part of the index is served
	Reason       string // one line, empty when all is well

	Missing  int64     // items whose file is gone
	Damaged  int64     // items whose bytes are wrong, as far as known
	Salvaged time.Time // until then damaged items are served with their wrong bytes; zero: they are not served
}

// Degraded reports whether an administrator has to act.
func (h Health) Degraded() bool { return h.Reason != "" }

// silentAfter is how long a write may wait for the disk until health says so.
const silentAfter = 30 * time.Second

// Health returns the read-only state, which lasts until a restart, and known damage.
func (r *Repository) Health() Health {
	c := r.index.Counters()
	h := Health{Missing: c.MissingItems, Damaged: c.DamagedItems, IndexDamaged: r.index.Damage() != nil, Salvaged: r.SalvagedUntil()}
	if waited := r.index.Writing(); waited >= silentAfter {
		h.Silent = true
		h.Reason = fmt.Sprintf("the disk has not answered a write for %v: check it", waited.Round(time.Second))
	}
	switch {
	case h.Silent: // nothing else is as urgent
	case r.readOnlyDisk:
		h.ReadOnly, h.Reason = true, "the file system is read-only: clients can read, and their locks are kept in memory"
	case r.index.Failed() != nil:
		h.ReadOnly, h.Reason = true, "a commit of the index failed; check the disk, then restart the server"
	case r.blobs.Failed() != nil || r.failed.Load() != nil:
		h.ReadOnly, h.Reason = true, "a write to stable storage failed; check the disk, then restart the server"
	case h.IndexDamaged: // said below
	case r.index.LogStatus().Err != nil:
		h.Reason = fmt.Sprintf("the log of the index cannot be moved into its file, and grows: %v", r.index.LogStatus().Err)
	case r.lost() != nil:
		h.ReadOnly, h.Reason = true, r.lost().Error()
	case h.Missing > 0 || h.Damaged > 0:
		h.Reason = fmt.Sprintf(`stored items are lost: %d missing, %d damaged; "packhouse check" names them`, h.Missing, h.Damaged)
	}
	if at := r.GuardRefused(); !at.IsZero() {
		h.Reason = strings.TrimPrefix(h.Reason+fmt.Sprintf("; the guard of a repository has refused the removal of snapshots, at %s last: packhouse guard show NAME",
			at.UTC().Format(time.RFC3339)), "; ")
	}
	if h.IndexDamaged {
		h.Reason = strings.TrimPrefix(h.Reason+"; the index of a repository is damaged: packhouse check names it and the pages, packhouse repo rebuild NAME --replace builds a new one", "; ")
	}
	if !h.Salvaged.IsZero() && !h.ReadOnly {
		h.Reason = strings.TrimPrefix(h.Reason+"; damaged items are served with wrong bytes until "+h.Salvaged.UTC().Format(time.RFC3339), "; ")
	}
	return h
}

// Usage has the counters of a repository.
type Usage struct {
	index.Counters
	Limit      int64     // bytes; negative: none
	TrashLimit int64     // bytes that the trash may hold; negative: no limit
	Used       int64     // bytes that count against Limit
	Reserved   int64     // by uploads under way
	LastBackup time.Time // zero: never
}

// Usage reads counters, in constant time.
func (r *Repository) Usage() Usage {
	u := Usage{Counters: r.index.Counters()}
	u.Used, u.Reserved, u.Limit = r.quota.current()
	u.TrashLimit = r.As(Principal{}).trashLimit()
	u.LastBackup, _ = r.index.LastBackup()
	return u
}

// Writers are when each principal completed its last backup, by name.
func (r *Repository) Writers() (all []index.Freshness, err error) {
	err = r.index.Writers(func(w index.Freshness) error {
		all = append(all, w)
		return nil
	})
	return all, r.translate(err)
}

// Now is the repository's clock, for dialects that store times.
func (r *Repository) Now() time.Time { return r.env.Now() }

// Space returns the free and total bytes of the file system below.
func (r *Repository) Space() (free, total int64, err error) { return r.blobs.Space() }

// Inodes returns the free and total inodes of the file system below; total is 0 where it does not count them.
func (r *Repository) Inodes() (free, total int64, err error) { return r.blobs.Inodes() }

// ephemeral tells whether key is a coordination object: it is exempt from quota while small, and
// removed without grace.
func ephemeral(key string) bool { return keys.Coordination(key) }

// trashUntil is when the bytes of an item removed now may go. The index makes it at once for exempt items.
func (r *Repository) trashUntil(now time.Time) time.Time {
	return now.Add(time.Duration(r.grace.Load()))
}
