package holder

import (
	"context"
	"errors"
	"fmt"
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
