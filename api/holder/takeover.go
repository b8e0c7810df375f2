package holder

import (
	"context"
	"errors"
	"fmt"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"packhouse/repo"
)

// ClaimFromHolder claims one repository, and asks a background holder to close it; it waits for that at most for patience.
func ClaimFromHolder(ctx context.Context, dir string, patience time.Duration) (*Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		claim, err := ClaimRepository(dir)
		var held *HeldError
		if err == nil || !errors.As(err, &held) || held.Up {
			return claim, err
		}
		if err := Yield(ctx, dir); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, held
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TakeOver asks the holder of a repository to let go and waits until it has, at most for patience. Holders in the data directory have left
// before a server begins; this is for a repository that a symbolic link brought in.
func TakeOver(ctx context.Context, dir string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := Yield(ctx, dir); err != nil {
		return fmt.Errorf("%w: %v", repo.ErrBusy, err)
	}
	for Held(dir) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %v", repo.ErrBusy, HeldBy(dir))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// CheckOwner keeps root from working in a directory whose server runs as another user: that one could not open the
// files that root made.
func CheckOwner(dir string, user int) error {
	info, err := os.Stat(filepath.Join(dir, repo.OwnDir))
	if errors.Is(err, os.ErrNotExist) {
		info, err = os.Stat(dir)
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if user != 0 || !ok || stat.Uid == 0 {
		return nil
	}
	owner := "#" + strconv.Itoa(int(stat.Uid))
	if u, err := osuser.LookupId(owner[1:]); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("no server runs, and the directory belongs to %s, who could not open what root makes in it; use: sudo -u '%s' packhouse", owner, owner)
}
