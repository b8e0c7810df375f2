package datadir

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
)

// A repository's directory may be a mount point, or a symbolic link to another disk. If that disk does not answer, only those who want
// something of its repositories may wait for it. So work that is shared by all repositories goes by file systems, and looks at
// several repositories do not wait long for what lies on another file system than the data directory.

// FileSystem names the file system that a repository lies on, or would. It touches the data directory alone: the repository's own may
// not answer. Names that no repository can have are on that of the data directory.
func (s *Set) FileSystem(name string) string {
	dir, err := s.path(name)
	if err != nil {
		dir = s.o.Dir
	}
	return s.fileSystem(vfs.ListMounts(), dir)
}

func (s *Set) fileSystem(mounts vfs.Mounts, dir string) string {
	if s.o.FileSystem != nil {
		return s.o.FileSystem(dir)
	}
	return mounts.Of(s.place(mounts, dir)).FileSystem
}

// fileSystemsOf are those of the entries of a data directory, by name, and its own.
func fileSystemsOf(data string, entries []fs.DirEntry) (own string, on map[string]string) {
	mounts := vfs.ListMounts()
	if real, err := filepath.EvalSymlinks(data); err == nil {
		data = real
	}
	own, on = mounts.Of(data).FileSystem, make(map[string]string, len(entries))
	for _, entry := range entries {
		at := filepath.Join(data, entry.Name())
		if on[entry.Name()] = own; entry.Type()&fs.ModeSymlink != 0 || mounts.At(at) {
			on[entry.Name()] = mounts.Of(placeIn(mounts, at)).FileSystem
		}
	}
	return own, on
}

// placeIn is where a directory lies, if it is a mount point or a symbolic link itself. There are no links above it. What is behind the link
// is taken as it is written.
func placeIn(mounts vfs.Mounts, at string) string {
	if mounts.At(at) {
		return at
	}
	target, err := os.Readlink(at)
	switch {
	case err != nil:
		return at
	case filepath.IsAbs(target):
		return filepath.Clean(target)
	}
	return filepath.Join(filepath.Dir(at), target)
}

// place is where the directory of a repository lies.
func (s *Set) place(mounts vfs.Mounts, dir string) string {
	if dir == s.o.Dir {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return real
		}
		return dir
	}
	above, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return dir
	}
	return placeIn(mounts, filepath.Join(above, filepath.Base(dir)))
}

// silentAfter is how long looks at several repositories wait for one that lies on another file system than the data directory.
const silentAfter = 2 * time.Second

// looks are those of one kind at the repositories of other file systems than the data directory's: at each file system one at a time, so that
// no more than that ever hang. The zero value is ready for use.
type looks struct {
	mu    sync.Mutex               // held for a look at the maps only
	turns map[string]chan struct{} // by file system; full while one is being looked at; guarded by mu
	since map[string]time.Time     // when the looks under way began; guarded by mu
}

// begin waits for the turn to look at a file system until ctx ends.
func (l *looks) begin(ctx context.Context, fileSystem string) bool {
	l.mu.Lock()
	if l.turns == nil {
		l.turns, l.since = make(map[string]chan struct{}), make(map[string]time.Time)
	}
	turn := l.turns[fileSystem]
	if turn == nil {
		turn = make(chan struct{}, 1)
		l.turns[fileSystem] = turn
	}
	l.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since[fileSystem] = time.Now()
	return true
}

func (l *looks) end(fileSystem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.since, fileSystem)
	<-l.turns[fileSystem]
}

// silent are the file systems that have not answered for so long.
func (l *looks) silent(longer time.Duration) (names map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, since := range l.since {
		if time.Since(since) >= longer {
			if names == nil {
				names = make(map[string]bool)
			}
			names[name] = true
		}
	}
	return names
}

// answers calls fn for names, which lie on the file systems that on tells, and returns what it says. It waits for other file systems than
// own for patience only: names of one that has not answered by then are missing in what is returned.
func answers[T any](l *looks, patience time.Duration, own string, names []string, on func(name string) string, fn func(name string) T) map[string]T {
	type answer struct {
		name  string
		value T
	}
	groups := make(map[string][]string)
	for _, name := range names {
		fileSystem := on(name)
		groups[fileSystem] = append(groups[fileSystem], name)
	}
	late, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	came, ended := make(chan answer, len(names)), make(chan struct{}, len(groups))
	waiting := 0
	for fileSystem, group := range groups {
		if fileSystem == own {
			continue
		}
		waiting++
		go func() {
			defer func() { ended <- struct{}{} }()
			if !l.begin(late, fileSystem) {
				return
			}
			defer l.end(fileSystem)
			for _, name := range group {
				came <- answer{name, fn(name)}
			}
		}()
	}
	got := make(map[string]T, len(names))
	for _, name := range groups[own] {
		got[name] = fn(name)
	}
	for waiting > 0 {
		select {
		case <-ended:
			waiting--
		case <-late.Done():
			waiting = 0
		}
	}
	for len(came) > 0 {
		a := <-came
		got[a.name] = a.value
	}
	return got
}

// openPatience is Ask's patience: fn may open repositories.
const openPatience = 10 * time.Second

// Ask calls fn for repositories, which it may open, and returns its answers. Those whose disk does not answer within ten seconds are missing
// among them.
func (s *Set) Ask(names []string, fn func(name string) any) map[string]any {
	return answers(&s.opening, openPatience, s.ownFileSystem(), names, s.FileSystem, fn)
}

// AskOpened calls fn for each repository in use and returns its answers, by name. For a repository whose disk does not answer it waits a
// limited time; its name is among silent then.
func AskOpened[T any](s *Set, fn func(name string, r *repo.Repository) T) (got map[string]T, silent []string) {
	got, silent = askOpened(s, &s.asking, fn)
	for name, r := range s.Opened() {
		if s.answering(name, r) != nil && !slices.Contains(silent, name) {
			silent = append(silent, name) // what is in memory could be told, but the disk does not answer
			delete(got, name)
		}
	}
	return got, silent
}

func askOpened[T any](s *Set, l *looks, fn func(name string, r *repo.Repository) T) (got map[string]T, silent []string) {
	opened := s.Opened()
	names := slices.Sorted(maps.Keys(opened))
	on := func(name string) string { return opened[name].FileSystem() }
	got = answers(l, silentAfter, s.ownFileSystem(), names, on, func(name string) T { return fn(name, opened[name]) })
	for _, name := range names {
		if _, ok := got[name]; !ok {
			silent = append(silent, name)
		}
	}
	return got, silent
}

// refusedAfter is how long a file system may leave the server without an answer until requests to its repositories are refused: they
// would only wait, and hold what others need.
const refusedAfter = 10 * time.Second

// ErrSilent answers them. It is a repo.ErrBusy.
var ErrSilent = fmt.Errorf("%w: the disk of this repository does not answer", repo.ErrBusy)

// noteSilent is called by Refresh, one call at a time.
func (s *Set) noteSilent() {
	now := s.refreshing.silent(refusedAfter)
	var before map[string]bool
	if was := s.silent.Load(); was != nil {
		before = *was
	}
	if maps.Equal(now, before) {
		return
	}
	s.silent.Store(&now)
	for name, r := range s.Opened() {
		switch on := r.FileSystem(); {
		case now[on] && !before[on]:
			s.o.Logger.Error("the disk of a repository does not answer: requests to it are refused until it does", "repository", name)
		case before[on] && !now[on]:
			s.o.Logger.Info("the disk of a repository answers again", "repository", name)
		}
	}
}

// answering refuses with repo.ErrBusy what would wait for a file system that does not answer. r is nil when the repository is not open.
func (s *Set) answering(name string, r *repo.Repository) error {
	silent := s.silent.Load()
	if silent == nil || len(*silent) == 0 {
		return nil
	}
	on := ""
	if r != nil {
		on = r.FileSystem()
	} else {
		on = s.FileSystem(name)
	}
	if (*silent)[on] {
		return ErrSilent
	}
	return nil
}

// ownFileSystem is that of the data directory.
func (s *Set) ownFileSystem() string { return s.fileSystem(vfs.ListMounts(), s.o.Dir) }
