package holder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"packhouse/repo"
)

// ClaimFromHolder claims one repository after asking a background holder to close it. It waits for that for patience at most.
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

// TakeOver asks the holder of a repository to end, and waits for that for patience at most. Holders inside the data directory have
// ended before a server starts; TakeOver is for a repository that is reached by a symbolic link.
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
