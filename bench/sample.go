package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// measure runs work, which sends requests to the server of the store, and fills in what it cost.
func (s *Store) measure(ctx context.Context, work func() ([]Operation, error)) (Sample, error) {
	if err := s.syncDisk(); err != nil {
		return Sample{}, err
	}
	if err := s.toggleProfile(ctx, "mutex-before.pprof"); err != nil {
		return Sample{}, err
	}
	before, err := s.usage()
	if err != nil {
		return Sample{}, err
	}
	start := time.Now()
	operations, err := work()
	took := time.Since(start)
	if err != nil {
		return Sample{}, err
	}
	x, err := s.sample(before, took, operations)
	return x, errors.Join(err, s.toggleProfile(ctx, "mutex.pprof"))
}

// toggleProfile begins or ends the profile of the server, if it makes one; last is the file that it then writes last.
func (s *Store) toggleProfile(ctx context.Context, last string) error {
	if s.profile == "" {
		return nil
	}
	if err := s.process.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, err := os.Stat(filepath.Join(s.profile, last)); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s writes no %s: %w", s.Server.Info.Name, last, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// usage is what server, generator and machine have used so far.
type usage struct {
	server, generator CPU
	machine           float64 // seconds of all cores
}

func (s *Store) usage() (u usage, err error) {
	// The machine last before, first after: else what reading takes would look like other load.
	if s.process != nil {
		if u.server, err = s.process.cpu(); err != nil {
			return u, err
		}
	}
	if u.generator, err = ownCPU(); err != nil {
		return u, err
	}
	u.machine, err = machineBusy()
	return u, err
}

func (s *Store) sample(before usage, took time.Duration, operations []Operation) (Sample, error) {
	after, err := s.usage()
	if err != nil {
		return Sample{}, err
	}
	peak, err := s.process.peakMemory()
	if err != nil {
		return Sample{}, err
	}
	x := Sample{
		Seconds: took.Seconds(), Operations: operations, PeakRSS: peak,
		Server: after.server.minus(before.server), Generator: after.generator.minus(before.generator),
	}
	other := after.machine - before.machine - x.Server.Total() - x.Generator.Total()
	x.OtherLoad = max(0, other) / took.Seconds()
	return x, nil
}
