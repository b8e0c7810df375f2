package holder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/layout"
)

// Names below a held directory.
const (
	lockFile   = "lock"
	socketFile = "socket"
)

// HeldError reports that another process holds the directory.
type HeldError struct {
	What string // "data directory" or "repository"
	PID  int    // 0: unknown
	Up   bool   // the holder is a server of the directory above
}

func (e *HeldError) Error() string {
	by := "another process"
	if e.PID != 0 {
		by = fmt.Sprintf("process %d", e.PID)
	}
	if e.Up {
		return fmt.Sprintf("the %s is in use by %s, which serves the data directory it is in", e.What, by)
	}
	return fmt.Sprintf("the %s is in use by %s", e.What, by)
}

// Claim is the right to open a directory. It lasts until Release or the end of the process. For a directory on a read-only file
// system it is the right to read, which any number of processes may have. Attached may be called concurrently with one call of
// another method.
type Claim struct {
	Dir string
	// ReadOnly: the file system takes no writes. Nothing is made in the directory then, and its lock is shared, if
	// there is a file to lock.
	ReadOnly bool

	what string // "data directory" or "repository"

	mu     sync.RWMutex // held over a look at the path, and for writing while the files below change
	held   bool         // guarded by mu, like the files
	lock   *os.File     // nil: read-only, and there is none
	own    *os.File     // Dir/.packhouse, wherever it lies by now; nil: read-only, and there is none
	around *os.File     // flock on the data directory: exclusive for its server, shared for a holder in it
	made   []string     // directories that did not exist before, outermost first

	claimed os.FileInfo // Dir, when it was claimed
	above   os.FileInfo // the directory above it, then
	// private is a directory for the socket, where Dir takes none; "": not made.
	private string
}

// ClaimData claims dir for a server of many repositories. dir is created if it does not exist. Holders of single repositories in
// it are asked to end, and ClaimData waits for them until ctx ends. Errors: *HeldError, else I/O.
func ClaimData(ctx context.Context, dir string) (*Claim, error) {
	c := &Claim{Dir: dir, what: dataDirectory}
	if err := c.take(ctx, true); err != nil {
		return nil, err
	}
	return c, nil
}

const (
	dataDirectory = "data directory"
	oneRepository = "repository"
)

// take implements ClaimData and ClaimRepository. Without create the directory, and all that a claim needs in it, must exist.
func (c *Claim) take(ctx context.Context, create bool) error {
	err := c.takeAll(ctx, create)
	if err == nil {
		c.mu.Lock()
		c.held = true
		c.mu.Unlock()
		return nil
	}
	if c.what == oneRepository {
		c.Tidy(false)
	}
	return errors.Join(err, c.Release())
}

func (c *Claim) takeAll(ctx context.Context, create bool) error {
	readOnly, err := onReadOnly(c.Dir)
	if err != nil {
		return err
	}
	if c.ReadOnly = readOnly; readOnly {
		err = c.shareLock()
	} else {
		err = c.takeLock(create)
	}
	if err == nil {
		err = c.remember()
	}
	switch {
	case err != nil:
		return err
	case readOnly:
		return c.shareData()
	case c.what == dataDirectory:
		return c.takeAround(ctx)
	}
	return c.shareAround()
}

// onReadOnly reports whether the existing part of the path dir is on a read-only file system.
func onReadOnly(dir string) (bool, error) {
	for {
		readOnly, err := vfs.OS().(vfs.ReadOnlyTeller).ReadOnly(dir)
		if !errors.Is(err, os.ErrNotExist) || filepath.Dir(dir) == dir {
			return readOnly, err
		}
		dir = filepath.Dir(dir)
	}
}

// remember notes which directories were claimed.
func (c *Claim) remember() (err error) {
	if c.claimed, err = os.Stat(c.Dir); err != nil {
		return err
	}
	c.above, err = os.Stat(filepath.Dir(c.Dir))
	return err
}

// takeAround takes the data directory's exclusive flock, after the holders that share it have ended.
func (c *Claim) takeAround(ctx context.Context) error {
	dir, err := os.Open(c.Dir)
	if err != nil {
		return err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := flock(dir, unix.LOCK_EX)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			c.around = dir // or without: see the package comment
			return nil
		}
		holders := below(c.Dir)
		for _, held := range holders {
			if refused := Yield(ctx, held); refused != nil {
				return errors.Join(refused, dir.Close())
			}
		}
		select {
		case <-ctx.Done():
			held := &HeldError{What: "data directory"}
			if len(holders) > 0 {
				held.What, held.PID = "repository "+layout.NameIn(holders[0]), pidOf(holders[0])
			}
			return errors.Join(held, dir.Close())
		case <-time.After(pause):
		}
	}
}

// below lists the directories directly in dir that have a holder's socket.
func below(dir string) []string {
	sockets, err := filepath.Glob(filepath.Join(escape(dir), "*", layout.OwnDir, socketFile))
	if err != nil {
		return nil // the pattern is ours and valid
	}
	held := make([]string, len(sockets))
	for i, socket := range sockets {
		held[i] = filepath.Dir(filepath.Dir(socket))
	}
	return held
}

// escape makes a path match only itself in a glob pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// ClaimRepository claims dir as a single repository. dir is created if it does not exist. Errors: *HeldError, else I/O.
func ClaimRepository(dir string) (*Claim, error) {
	c := &Claim{Dir: dir, what: oneRepository}
	if err := c.take(context.Background(), true); err != nil {
		return nil, err
	}
	return c, nil
}

// shareAround takes the shared flock on the directory above, unless a server runs or starts there.
func (c *Claim) shareAround() error {
	above := filepath.Dir(c.Dir)
	dir, err := os.Open(above)
	if errors.Is(err, os.ErrPermission) {
		return nil // no server of ours runs there as this user
	}
	if err != nil {
		return err
	}
	held := &HeldError{What: "repository", PID: pidOf(above), Up: true}
	if err := flock(dir, unix.LOCK_SH); errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(held, dir.Close())
	}
	if Held(above) {
		return errors.Join(held, dir.Close())
	}
	c.around = dir
	return nil
}

// takeLock takes the lock of the directory; with create it creates what is missing for that.
func (c *Claim) takeLock(create bool) error {
	own := filepath.Join(c.Dir, layout.OwnDir)
	if create {
		if err := c.mkdirAll(own); err != nil {
			return err
		}
	}
	path := filepath.Join(own, lockFile)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if create && errors.Is(err, os.ErrNotExist) { // tidied away between
			if err := c.mkdirAll(own); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := lockFor(f, unix.F_WRLCK); err != nil {
			return errors.Join(c.lockError(err), f.Close())
		}
		// Its last holder may have removed the file before it let go of the lock.
		if same, err := isAt(f, path); err != nil || !same {
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			continue
		}
		c.lock = f
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
			return err
		}
		c.own, err = os.Open(own)
		return err
	}
}

// lockError says who has the lock.
func (c *Claim) lockError(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return &HeldError{What: c.what, PID: pidOf(c.Dir)}
	}
	return fmt.Errorf("lock the %s: %w", c.what, err)
}

// shareLock takes the lock of a directory on a read-only file system, for reading, if it has one. A process that changes the directory
// must have it mounted elsewhere, and then has the lock for writing.
func (c *Claim) shareLock() error {
	if _, err := os.Stat(c.Dir); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(c.Dir, layout.OwnDir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := lockFor(f, unix.F_RDLCK); err != nil {
		return errors.Join(c.lockError(err), f.Close())
	}
	c.lock = f
	return nil
}

// shareData takes the shared flock on a data directory, or on the one that contains a single repository. Only a server that may write
// takes it exclusively.
func (c *Claim) shareData() error {
	around := c.Dir
	if c.what == oneRepository {
		around = filepath.Dir(c.Dir)
	}
	dir, err := os.Open(around)
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := flock(dir, unix.LOCK_SH); errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(&HeldError{What: c.what, PID: pidOf(around), Up: c.what == oneRepository}, dir.Close())
	}
	c.around = dir // or without: see the package comment
	return nil
}

// mkdirAll makes dir and its parents, and remembers which it made. What another process tidies away between is made again.
func (c *Claim) mkdirAll(dir string) error {
	for {
		err := os.Mkdir(dir, 0o700)
		switch {
		case err == nil:
			c.made = append(c.made, dir)
			if err := vfs.OS().SyncDir(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		case errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir:
			if err := c.mkdirAll(filepath.Dir(dir)); err != nil {
				return err
			}
			continue
		case !errors.Is(err, os.ErrExist):
			return err
		}
		info, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) {
			if link, linkErr := os.Lstat(dir); linkErr == nil && link.Mode()&os.ModeSymlink != 0 {
				return err // a link to nothing
			}
			continue
		}
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is a file, not a directory", filepath.Base(dir))
		}
		return err
	}
}

// Attached checks that the claimed directory, with the lock in it, is still the one at its path, and is still writable or
// read-only as it was. Otherwise the error is a *repo.DetachedError, and nothing may be created at the path any more.
func (c *Claim) Attached() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found := "the directory was moved, removed or replaced"
	if !c.held {
		found = "it was given up"
	} else if c.lock != nil {
		if same, err := isAt(c.lock, filepath.Join(c.Dir, layout.OwnDir, lockFile)); err == nil && same {
			found = ""
		}
	} else if now, err := os.Stat(c.Dir); err == nil && os.SameFile(now, c.claimed) {
		found = ""
	}
	if readOnly, err := onReadOnly(c.Dir); found == "" && c.ReadOnly && err == nil && !readOnly {
		found = "the file system takes writes again"
	}
	if found == "" {
		return nil
	}
	return &repo.DetachedError{
		Path: c.Dir, Found: found, Expected: "the " + c.what + " that was opened",
		Do: "put it back, or mount its volume again",
	}
}

// Suspend releases the directory while it is not at its path, so that its volume can be unmounted, checked and mounted again.
// Files that the claim created stay.
func (c *Claim) Suspend() error { return c.Release() }

// Resume claims, after Suspend, the directory that is at the path now. A data directory must be complete; the caller has
// checked that it is the right one. The directory of a single repository may be missing or another one, if the directory above
// is the same as before: then the repository was moved or removed, and its directory is created again. Errors: *HeldError,
// *repo.DetachedError, else I/O.
func (c *Claim) Resume(ctx context.Context) error {
	if c.what == oneRepository {
		if err := c.mayReplace(); err != nil {
			return err
		}
	}
	return c.take(ctx, c.what == oneRepository)
}

// mayReplace distinguishes a repository's directory that was moved or removed from one whose volume is no longer mounted.
func (c *Claim) mayReplace() error {
	away := &repo.DetachedError{Path: c.Dir, Expected: "the " + c.what + " that was opened", Do: "mount its volume again, or stop this process"}
	above, err := os.Stat(filepath.Dir(c.Dir))
	if err != nil || !os.SameFile(above, c.above) {
		away.Found = "the directory above it is not the one that was there"
		return away
	}
	if _, err := os.Stat(filepath.Join(c.Dir, layout.IndexFile)); err == nil {
		return nil // a repository
	}
	if now, err := os.Stat(c.Dir); err == nil && device(c.claimed) != device(c.above) && device(now) == device(above) {
		away.Found = "its volume is not mounted"
		return away
	}
	return nil
}

func device(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}

// Fresh reports whether the directory had no files of a holder before this claim.
func (c *Claim) Fresh() bool { return slices.Contains(c.made, filepath.Join(c.Dir, layout.OwnDir)) }

// Tidy removes the files of the holder of a repository, and the directories that the claim created if they are empty. It is
// called if no repository was created. whole: also remove the repository's directory if it existed before, because the
// repository was destroyed.
//
// If the directory has been moved since, only the files in it are removed; the directory that replaced it is not touched.
func (c *Claim) Tidy(whole bool) {
	if c.own == nil {
		return
	}
	for _, name := range []string{socketFile, "log", "log.1", lockFile} {
		_ = unix.Unlinkat(int(c.own.Fd()), name, 0) // what stays makes the directory stay, no harm
	}
	own := filepath.Join(c.Dir, layout.OwnDir)
	if same, err := isAt(c.own, own); err != nil || !same {
		return
	}
	slices.Reverse(c.made)
	remove := append([]string{own}, c.made...)
	if whole {
		remove = append(remove, c.Dir)
	}
	for _, dir := range remove {
		_ = os.Remove(dir) // refuses unless it is empty
	}
}

// Release ends the claim.
func (c *Claim) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	var errs error
	for _, f := range []*os.File{c.around, c.lock, c.own} {
		if f != nil {
			errs = errors.Join(errs, f.Close())
		}
	}
	c.around, c.lock, c.own = nil, nil, nil
	if c.private != "" {
		errs = errors.Join(errs, os.RemoveAll(c.private))
		c.private = ""
	}
	return errs
}

// Held reports whether a process holds dir now for writing. It takes no lock, so it does not disturb other processes.
func Held(dir string) bool {
	f, err := os.Open(filepath.Join(dir, layout.OwnDir, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	held := unix.Flock_t{Type: unix.F_RDLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &held)
	return err == nil && held.Type != unix.F_UNLCK
}

// lockFor takes the lock of a lock file, for writing or reading. It is an open file description lock rather than a
// flock because such a lock can be looked at (Held) without taking it for a moment.
func lockFor(f *os.File, kind int16) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
}

// HeldBy returns the error that names the process that holds dir.
func HeldBy(dir string) *HeldError { return &HeldError{What: "directory", PID: pidOf(dir)} }

// pidOf reads the process ID of the holder of dir; 0 if it is not known.
func pidOf(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, layout.OwnDir, lockFile))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isAt reports whether path is still the open file.
func isAt(f *os.File, path string) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(mine, there), nil
}
