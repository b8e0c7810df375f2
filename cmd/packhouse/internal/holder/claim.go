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
	"time"

	"golang.org/x/sys/unix"
)

// Names below a held directory.
const (
	OwnDir     = ".packhouse"
	lockFile   = "lock"
	socketFile = "socket"
)

// HeldError tells that another process holds the directory.
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

// Claim is the right to open what is in a directory. It lasts until Release or the end
// of the process.
type Claim struct {
	Dir    string
	lock   *os.File
	around *os.File // flock on the data directory: exclusive for its server, shared for a holder in it
	made   []string // directories that did not exist before, outermost first
}

// ClaimData claims dir, which is made if it does not exist, for a server of many
// repositories. Holders of single repositories in it are asked to let go, and waited for until ctx ends.
// Errors: *HeldError, else I/O.
func ClaimData(ctx context.Context, dir string) (*Claim, error) {
	c, err := claim(dir, "data directory")
	if err != nil {
		return nil, err
	}
	if err := c.takeAround(ctx); err != nil {
		return nil, errors.Join(err, c.Release())
	}
	return c, nil
}

// takeAround takes the data directory's exclusive flock from holders that share it.
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
				held.What, held.PID = "repository "+filepath.Base(holders[0]), pidOf(holders[0])
			}
			return errors.Join(held, dir.Close())
		case <-time.After(pause):
		}
	}
}

// below lists the directories directly in dir that have a holder's socket.
func below(dir string) []string {
	sockets, err := filepath.Glob(filepath.Join(escape(dir), "*", OwnDir, socketFile))
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

// ClaimRepository claims dir, which is made if it does not exist, as one repository.
// Errors: *HeldError, else I/O.
func ClaimRepository(dir string) (*Claim, error) {
	c, err := claim(dir, "repository")
	if err != nil {
		return nil, err
	}
	if err := c.shareAround(); err != nil {
		c.Tidy(false)
		return nil, errors.Join(err, c.Release())
	}
	return c, nil
}

// shareAround takes the shared flock on the directory above, unless a server is there or is coming.
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

// claim takes the lock of a directory.
func claim(dir, what string) (*Claim, error) {
	c := &Claim{Dir: dir}
	if err := c.mkdirAll(filepath.Join(dir, OwnDir)); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, OwnDir, lockFile)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, os.ErrNotExist) { // tidied away between
			if err := c.mkdirAll(filepath.Join(dir, OwnDir)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := lockExclusively(f); err != nil {
			err = errors.Join(err, f.Close())
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				return nil, &HeldError{What: what, PID: pidOf(dir)}
			}
			return nil, fmt.Errorf("lock the %s: %w", what, err)
		}
		// Its last holder may have removed the file before it let go of the lock.
		if same, err := isAt(f, path); err != nil || !same {
			if err := errors.Join(err, f.Close()); err != nil {
				return nil, err
			}
			continue
		}
		c.lock = f
		if err := f.Truncate(0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return c, nil
	}
}

// mkdirAll makes dir and its parents, and remembers which it made.
func (c *Claim) mkdirAll(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := c.mkdirAll(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	switch {
	case err == nil:
		c.made = append(c.made, dir)
		return syncDir(filepath.Dir(dir))
	case errors.Is(err, os.ErrExist):
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is a file, not a directory", filepath.Base(dir))
		}
		return err
	}
	return err
}

// Fresh tells whether the directory had nothing of a holder's before this claim.
func (c *Claim) Fresh() bool { return slices.Contains(c.made, filepath.Join(c.Dir, OwnDir)) }

// Tidy removes what the holder of a repository keeps, and directories it made, as far as they are empty:
// for when there is no repository in the end. whole: the repository's directory too, although
// it was there before, because the repository has been destroyed.
func (c *Claim) Tidy(whole bool) {
	own := filepath.Join(c.Dir, OwnDir)
	for _, name := range []string{socketFile, "log", "log.1", lockFile} {
		_ = os.Remove(filepath.Join(own, name)) // what stays makes the directory stay, no harm
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

// Release gives the claim up.
func (c *Claim) Release() error {
	var errs error
	for _, f := range []*os.File{c.around, c.lock} {
		if f != nil {
			errs = errors.Join(errs, f.Close())
		}
	}
	c.around, c.lock = nil, nil
	return errs
}

// Held tells whether a process holds dir now. It only looks: it is in nobody's way.
func Held(dir string) bool {
	f, err := os.Open(filepath.Join(dir, OwnDir, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	held := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &held)
	return err == nil && held.Type != unix.F_UNLCK
}

// lockExclusively takes the lock of a lock file. It is an open file description lock rather than a
// flock because such a lock can be looked at (Held) without taking it for a moment.
func lockExclusively(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// HeldBy is the error that says who holds dir.
func HeldBy(dir string) *HeldError { return &HeldError{What: "directory", PID: pidOf(dir)} }

// pidOf reads who holds dir; 0 if that is not known.
func pidOf(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, OwnDir, lockFile))
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

// isAt tells whether path still names the open file.
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

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
