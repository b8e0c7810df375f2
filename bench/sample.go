package bench

import (
	"context"
	"time"
)

// measure runs work, which sends requests to the server of the store, and fills in what it cost.
func (s *Store) measure(ctx context.Context, work func() ([]Operation, error)) (Sample, error) {
	if err := s.syncDisk(); err != nil {
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
	return s.sample(before, took, operations)
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
