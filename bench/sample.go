package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"packhouse/bench/profile"
)

// measure runs work, which sends requests to the server of the store, and fills in what it cost.
func (s *Store) measure(ctx context.Context, work func() ([]Operation, error)) (Sample, error) {
	if err := s.syncDisk(); err != nil {
		return Sample{}, err
	}
	if err := s.toggleProfile(ctx, profile.Begin); err != nil {
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
	return x, errors.Join(err, s.toggleProfile(ctx, profile.End))
}

// toggleProfile starts or stops the profile of the server, if it writes one.
func (s *Store) toggleProfile(ctx context.Context, toggle func(context.Context, *os.Process, string) error) error {
	if s.profile == "" {
		return nil
	}
	if err := toggle(ctx, s.process.cmd.Process, s.profile); err != nil {
		return fmt.Errorf("profile of %s: %w", s.Server.Info.Name, err)
	}
	return nil
}

// usage is what server, generator and machine have used until a time.
type usage struct {
	at                time.Time
	server, generator CPU
	idle, kernel      float64 // seconds, of all cores and of the kernel's threads
	cores             int
}

func (s *Store) usage() (u usage, err error) {
	if s.process != nil {
		if u.server, err = s.process.cpu(); err != nil {
			return u, err
		}
	}
	if u.generator, err = ownCPU(); err != nil {
		return u, err
	}
	if u.kernel, err = kernelThreads(); err != nil {
		return u, err
	}
	u.at = time.Now()
	u.idle, u.cores, err = machineIdle()
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
	x.OtherLoad = after.others(before)
	return x, nil
}

// others is how many cores were busy since before with processes that are neither the server nor the generator, nor
// the kernel. Time that a hypervisor gave to other machines is busy.
func (u usage) others(before usage) float64 {
	elapsed := u.at.Sub(before.at).Seconds()
	busy := float64(u.cores)*elapsed - (u.idle - before.idle)
	own := u.server.minus(before.server).Total() + u.generator.minus(before.generator).Total() + u.kernel - before.kernel
	return max(0, (busy-own)/elapsed)
}
