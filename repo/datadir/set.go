package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/layout"
)

var (
	// errStopping answers requests that come while the server closes its repositories.
	errStopping  = fmt.Errorf("%w: the server is stopping", repo.ErrBusy)
	errElsewhere = fmt.Errorf("%w: another process has the repository open", repo.ErrBusy)
)

// Options of Open. Dir is required.
type Options struct {
	Dir    string
	Single bool // Dir itself is the one repository, under the name ""; else each sub-directory is one
	repo.Environment
	// Settings gives what the configuration says of a repository; nil: no limits.
	Settings func(name string) repo.Settings
	// TakeOver asks a process that holds the repository in dir to let go of it.
	// nil: such a repository is repo.ErrBusy.
	TakeOver func(ctx context.Context, dir string) error

	// Identity is the one that the data directory must have, see MakeIdentity. "": it is known by device and inode alone.
	Identity string
	// InPlace checks that this process still has the claim on the directory that is at the path. Otherwise the error is a
	// repo.ErrDetached. nil: no check.
	InPlace func() error
	// Detached is called when the directory is found to be missing or not the one that was opened. It closes what is open
	// in the directory, so that its volume can be unmounted. It may be nil.
	Detached func()
	// Reattach claims the directory that is at the path now and has the Identity. If it returns nil, the set continues with that
	// directory. It is called periodically until it succeeds, one call at a time. nil: the owner of the set calls Attach.
	Reattach func() error
	// GaveUp is called for each repository that is closed because its directory was moved or replaced. It may be nil.
	GaveUp func(*repo.Repository)
	// FileSystem names the file system of a repository, by its directory; nil: as the kernel says what is mounted.
	FileSystem func(dir string) string
	// Patience is how long Close waits for repositories whose disk does not answer; 0: 20 s.
	Patience time.Duration
	// Destroyed is called for each repository that was destroyed, so that nothing is remembered of it. It may be nil.
	Destroyed func(*repo.Repository)
}

// Set is the set of repositories of one data directory. They are opened when first needed and stay open. Its methods are safe for
// concurrent use.
type Set struct {
	o     Options
	names keyedMutex // a name is held over the opening, creating and destroying of its repository
	forms keyedMutex // see lockAlike; before names
	disk  repo.Disk

	unusable unusable
	attached attachment

	naming, refreshing, displacing, asking, opening, telling, missing, removing, counting looks                           // one for each kind of look at several repositories
	silent                                                                                atomic.Pointer[map[string]bool] // file systems that do not answer; nil: all do

	mu       sync.RWMutex                       // held for a look at the maps only
	open     map[string]*repo.Repository        // guarded by mu
	closed   bool                               // guarded by mu
	leaving  map[*repo.Repository]chan struct{} // being given up; closed when they are closed. Guarded by mu
	devices  map[string]uint64                  // of repositories that were given up and had a volume of their own. Guarded by mu
	failed   map[string]bool                    // repositories whose disk failed before its file system became read-only. Guarded by mu
	recorded atomic.Bool                        // what files there are of known repositories is durable
	known    map[string]bool                    // repositories that were opened, and not destroyed since; see know. Guarded by mu

	leavings sync.WaitGroup // the goroutines of leaving
	counts   sync.WaitGroup // those that count what all repositories use

	expiring time.Time               // when removed repositories were last looked at. Guarded by mu
	sweeping map[string]*atomic.Bool // directories whose graves are being emptied; true: look again. Guarded by mu
	sweeps   sync.WaitGroup          // the goroutines of sweeping
	stopping chan struct{}           // closed when Close waits no longer
	ending   chan struct{}           // closed when Close begins
}

// Open makes a set of what is in o.Dir, which need not exist yet. It opens no repository.
func Open(o Options) *Set {
	o.Environment = o.WithDefaults()
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	if o.Settings == nil {
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1} }
	}
	s := &Set{
		o: o, open: make(map[string]*repo.Repository), sweeping: make(map[string]*atomic.Bool), stopping: make(chan struct{}), ending: make(chan struct{}),
		leaving: make(map[*repo.Repository]chan struct{}), devices: make(map[string]uint64), failed: make(map[string]bool), known: make(map[string]bool),
	}
	if info, err := o.FS.Stat(o.Dir); err == nil {
		s.bind(info)
	}
	return s
}

// Single reports whether the set has only one repository, under the name "".
func (s *Set) Single() bool { return s.o.Single }

// NameOf returns the name of a repository that is open.
func (s *Set) NameOf(r *repo.Repository) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, other := range s.open {
		if other == r {
			return name, nil
		}
	}
	return "", repo.ErrNoRepository
}

// path is the directory of a repository.
func (s *Set) path(name string) (string, error) {
	if s.o.Single {
		if name != "" {
			return "", repo.ErrNoRepository
		}
		return s.o.Dir, nil
	}
	if err := CheckName(name); err != nil {
		return "", err
	}
	return s.dir(name), nil
}

// dir is the directory of a repository of the set.
func (s *Set) dir(name string) string { return filepath.Join(s.o.Dir, layout.DirName(name)) }

// opened returns the repository if it is open and its directory is the one that was opened, otherwise nil.
func (s *Set) opened(name string) (*repo.Repository, error) {
	s.mu.RLock()
	r, closed := s.open[name], s.closed
	s.mu.RUnlock()
	if closed {
		return nil, errStopping
	}
	if err := s.answering(name, r); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, s.look(false)
	}
	return s.stillOpen(name, r)
}

// Get returns the repository of that name: repo.ErrNoRepository if it does not exist (repo.ErrVanished: any more), repo.ErrForeign if its directory contains
// something else, repo.ErrCorrupt if its index is lost or damaged, repo.ErrDetached if the data directory, or the repository's own
// volume, is missing or not the one that was opened, repo.ErrBusy while it is rolled back.
func (s *Set) Get(ctx context.Context, name string) (*repo.Repository, error) {
	r, err := s.get(ctx, name)
	if err == nil {
		err = r.Available()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// get is Get, also of a repository that is not available.
func (s *Set) get(ctx context.Context, name string) (*repo.Repository, error) {
	if r, err := s.opened(name); r != nil || err != nil {
		return r, err
	}
	dir, err := s.path(name)
	if err != nil {
		return nil, err
	}
	defer s.names.lock(name)()
	return s.getLocked(ctx, name, dir)
}

// getLocked is Get while the name is held.
func (s *Set) getLocked(ctx context.Context, name, dir string) (*repo.Repository, error) {
	if r, err := s.opened(name); r != nil || err != nil {
		return r, err
	}
	r, err := s.openLocked(ctx, name, dir)
	if errors.Is(err, index.ErrNotFound) {
		// While we waited for its holder the index was taken away: destroyed, or rebuilt.
		r, err = s.openLocked(ctx, name, dir)
	}
	s.unusable.note(name, err)
	if err != nil {
		return nil, s.vanished(name, err)
	}
	s.know(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(errStopping, r.Close())
	}
	s.open[name] = r
	return r, nil
}

// openLocked opens the files, also those that another process lets go of.
func (s *Set) openLocked(ctx context.Context, name, dir string) (*repo.Repository, error) {
	// Those who gave up while others tried must not have their turn: it can take seconds.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.volumeOf(name, dir); err != nil {
		return nil, err
	}
	if err := s.inspect(dir); errors.Is(err, errDestroyed) {
		if s.onReadOnlyDisk(dir) {
			return nil, repo.ErrNoRepository
		}
		if err := s.clear(name, dir); err != nil {
			s.o.Logger.Warn("files of a destroyed repository could not be removed; the next start tries again", "repository", name, "error", err)
		}
		return nil, repo.ErrNoRepository
	} else if errors.Is(err, errRestoring) && !s.onReadOnlyDisk(dir) {
		if err := s.finishRestore(dir); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	file, statErr := s.o.FS.Stat(filepath.Join(dir, layout.IndexFile))
	if err := s.unusable.still(name, file, s.o.Now()); statErr == nil && err != nil {
		return nil, err
	}
	o := repo.OpenOptions{Environment: s.o.Environment, Disk: &s.disk, Dir: dir, FileSystem: s.FileSystem(name), Mend: s.rebuildCommand(dir) + " --replace", Settings: s.o.Settings(name)}
	r, err := repo.Open(ctx, o)
	if errors.Is(err, repo.ErrBusy) && s.endDisplaced(ctx) {
		// It may have been ours, under another name.
		r, err = repo.Open(ctx, o)
	}
	if errors.Is(err, repo.ErrBusy) && s.o.TakeOver != nil {
		if err := s.o.TakeOver(ctx, dir); err != nil {
			return nil, err
		}
		r, err = repo.Open(ctx, o)
	}
	if err == nil && !r.ReadOnlyDisk() {
		// A stop or a crash may have left what lies here of the one before it.
		if _, err := s.o.FS.Stat(filepath.Join(dir, layout.GraveDir)); err == nil {
			s.sweepLater(name, dir)
		}
	}
	if damage := (*repo.IndexError)(nil); errors.As(err, &damage) {
		// Once, not with every look of maintenance.
		if !s.unusable.knows(name) {
			s.o.Logger.Error("index is damaged", "repository", name, "error", damage.Err)
		}
		if statErr == nil {
			s.unusable.refuse(name, err, file, s.o.Now())
		}
		return nil, err
	}
	return r, err
}

// Create creates a repository for clients of dialect, durably, and returns it. repo.ErrExists if there is one, repo.ErrInvalid if there is one of the same
// name in another form of Unicode, repo.ErrForeign if the
// directory contains something else, repo.ErrCorrupt if it has blobs whose index is lost.
func (s *Set) Create(ctx context.Context, name, dialect string) (*repo.Repository, error) {
	dir, err := s.path(name)
	if err != nil {
		return nil, err
	}
	defer s.lockAlike(name)()
	defer s.names.lock(name)()
	if _, err := s.opened(name); err != nil {
		return nil, err
	}
	if err := s.look(true); err != nil {
		return nil, err
	}
	if err := errors.Join(s.volumeOf(name, dir), s.alike(name)); err != nil {
		return nil, err
	}
	if err := s.vacate(name, dir, s.inspect(dir)); err != nil {
		return nil, err
	}
	if err := s.make(dir, dialect); err != nil {
		if away := s.look(true); away != nil {
			return nil, away
		}
		if errors.Is(err, fs.ErrNotExist) { // somebody removes the directory this moment
			err = fmt.Errorf("%w: %w", repo.ErrDetached, err)
		}
		return nil, err
	}
	return s.getLocked(ctx, name, dir)
}

// vacate wants no repository to be in dir, of which inspect says found, and removes what is left of a destroyed one. The name is held.
func (s *Set) vacate(name, dir string, found error) error {
	switch {
	case found == nil:
		return repo.ErrExists
	case s.onReadOnlyDisk(dir):
		return repo.ErrReadOnlyDisk
	case errors.Is(found, errDestroyed):
		if err := s.clear(name, dir); err != nil {
			return fmt.Errorf("create repository: %w", err)
		}
	case errors.Is(found, errRestoring):
		return repo.ErrExists
	case !errors.Is(found, repo.ErrNoRepository):
		return found
	}
	return nil
}

// make makes the files of a repository.
func (s *Set) make(dir, dialect string) error {
	if err := layout.MkdirAll(s.o.FS, dir); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if err := finishDestroy(s.o.FS, dir); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	// Once more, just before the step that makes it a repository: what was made until now is empty.
	if err := s.look(true); err != nil {
		return err
	}
	return repo.Create(s.o.Environment, dir, dialect)
}

// Names lists the repositories, sorted, including those whose index is lost, for which Get returns repo.ErrCorrupt. repo.ErrDetached if
// the data directory is missing or not the one that was opened.
func (s *Set) Names() ([]string, error) {
	names, _, err := s.list()
	return names, err
}

// Counts are numbers of repositories.
type Counts struct {
	There    int // those of Names
	Adopting int // of them: being made from directories of other servers, or waiting for that to be continued
	Missing  int // those of Vanished
}

// Count counts the repositories. Errors: as of Names.
func (s *Set) Count() (Counts, error) {
	names, adopting, err := s.list()
	if err != nil {
		return Counts{}, err
	}
	return Counts{len(names), adopting, len(s.Vanished(names))}, nil
}

// list is Names, and how many of them are being adopted.
func (s *Set) list() (names []string, adopting int, err error) {
	if err := s.look(false); err != nil {
		return nil, 0, err
	}
	due := s.expiryDue()
	if s.o.Single {
		if due {
			s.expireIn(s.o.Dir)
		}
		if err := s.inspect(s.o.Dir); err != nil {
			return nil, 0, err
		}
		return []string{""}, 0, nil
	}
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list repositories: %w", err)
	}
	all, own, on := s.namesOf(entries)
	found := answers(&s.naming, silentAfter, own, all, on, func(name string) error {
		if due {
			s.expireIn(s.dir(name))
		}
		if _, err := s.o.FS.Stat(filepath.Join(s.dir(name), layout.IndexFile)); err == nil {
			return nil
		}
		return s.inspect(s.dir(name))
	})
	for _, name := range all {
		err := found[name] // nil, too, where a file system does not answer: what lies there cannot be told now, but it is not gone
		switch {
		case err == nil, errors.Is(err, repo.ErrCorrupt), errors.Is(err, errRestoring), errors.Is(err, ErrAdopting):
			names = append(names, name)
			if errors.Is(err, ErrAdopting) {
				adopting++
			}
		case errors.Is(err, errDestroyed):
			s.clearLater(name, s.dir(name))
		}
	}
	sort.Strings(names)
	return names, adopting, nil
}

// namesOf are the entries of the data directory that can be repositories, its file system, and theirs.
func (s *Set) namesOf(entries []fs.DirEntry) (names []string, own string, on func(name string) string) {
	for _, entry := range entries {
		if name, ok := NameOf(entry.Name()); ok {
			names = append(names, name)
		}
	}
	if s.o.FileSystem != nil {
		return names, s.ownFileSystem(), s.FileSystem
	}
	own, places := fileSystemsOf(s.o.Dir, entries)
	return names, own, func(name string) string { return places[layout.DirName(name)] }
}

// Opened returns the repositories in use now, by name.
func (s *Set) Opened() map[string]*repo.Repository {
	s.mu.RLock()
	defer s.mu.RUnlock()
	opened := make(map[string]*repo.Repository, len(s.open))
	for name, r := range s.open {
		opened[name] = r
	}
	return opened
}

// Reconfigure calls Options.Settings again for the repositories in use. One whose disk does not answer keeps what it has, until it is opened again.
func (s *Set) Reconfigure() {
	askOpened(s, &s.telling, func(name string, r *repo.Repository) bool {
		r.Configure(s.o.Settings(name))
		return true
	})
}

// Space returns the free and total bytes of the file system below.
func (s *Set) Space() (free, total int64, err error) {
	if err := s.look(false); err != nil {
		return 0, 0, err // not those of the file system that the volume was mounted on
	}
	return s.o.FS.Space(s.o.Dir)
}

// Inodes returns how many inodes are free in the file system below, and how many it has; total is 0 where it does not count them.
func (s *Set) Inodes() (free, total int64, err error) {
	if err := s.look(false); err != nil {
		return 0, 0, err // as for Space
	}
	return s.o.FS.Inodes(s.o.Dir)
}

func (s *Set) isClosed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}

// Close closes all repositories; file systems do not wait for each other. Running requests fail with repo.ErrBusy. It does not wait longer
// than Options.Patience: what was acknowledged is durable, and the next start does what is left. The removal of destroyed repositories may
// continue for 10 s, and is continued at the next start.
func (s *Set) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	if !again {
		close(s.ending)
	}
	open := s.open
	s.open = nil
	s.mu.Unlock()
	type closing struct {
		name string
		r    *repo.Repository
		err  error
	}
	groups := make(map[string][]closing)
	for name, r := range open {
		groups[r.FileSystem()] = append(groups[r.FileSystem()], closing{name: name, r: r})
	}
	closed, left := make(chan closing, len(open)), make(chan struct{})
	for _, group := range groups {
		go func() {
			for _, c := range group {
				c.err = c.r.Close()
				closed <- c
			}
		}()
	}
	go func() {
		s.leavings.Wait()
		s.counts.Wait()
		close(left)
	}()
	late := time.NewTimer(s.o.Patience)
	defer late.Stop()
	var all error
	for waiting := true; waiting; waiting = len(open) > 0 || left != nil {
		select {
		case c := <-closed:
			all = errors.Join(all, c.err)
			delete(open, c.name)
		case <-left:
			left = nil
		case <-late.C:
			return errors.Join(all, fmt.Errorf("not closed, as their disk does not answer: repositories %s", strings.Join(slices.Sorted(maps.Keys(open)), ", ")))
		}
	}
	if !again {
		s.endSweeps()
	}
	return all
}
