package profile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	_ "packhouse/internal/platform" // Linux only
)

// Begin makes a process that has called OnSignal start a profile in dir, which must have none yet. It returns when the profile has
// started, or with an error after a minute.
func Begin(ctx context.Context, p *os.Process, dir string) error {
	return signalAndWait(ctx, p, dir, first)
}

// End makes the process stop the profile, and returns when all files are written.
func End(ctx context.Context, p *os.Process, dir string) error {
	return signalAndWait(ctx, p, dir, last)
}

func signalAndWait(ctx context.Context, p *os.Process, dir, file string) error {
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, err := os.Stat(filepath.Join(dir, file)); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", file, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}
