package main

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// profiler writes profiles of the time between two signals SIGUSR1, for `bench store --profiles`. The first begins with
// allocs-before.pprof and mutex-before.pprof, counters since the start, and the second ends with cpu.pprof, allocs.pprof and
// mutex.pprof. The mutex profile is written last, under its name when it is whole: who waits for it finds the others.
type profiler struct {
	dir string
	cpu *os.File // nil: no profile runs
}

// profile listens for the signal until the returned function is called. Without a directory it does nothing.
func profile(dir string, log *slog.Logger) func() {
	if dir == "" {
		return func() {}
	}
	runtime.SetMutexProfileFraction(1)
	p := &profiler{dir: dir}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range signals {
			if err := p.toggle(); err != nil {
				log.Error("could not write a profile", "error", err)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-ended
	}
}

func (p *profiler) toggle() error {
	if p.cpu == nil {
		if err := os.MkdirAll(p.dir, 0o700); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(p.dir, "cpu.pprof"))
		if err != nil {
			return err
		}
		p.cpu = f
		if err := errors.Join(p.write("allocs", "-before"), p.write("mutex", "-before")); err != nil {
			return err
		}
		return pprof.StartCPUProfile(f)
	}
	pprof.StopCPUProfile()
	err := p.cpu.Close()
	p.cpu = nil
	return errors.Join(err, p.write("allocs", ""), p.write("mutex", ""))
}

// write makes the file of a profile that counts since the start.
func (p *profiler) write(name, suffix string) error {
	path := filepath.Join(p.dir, name+suffix+".pprof")
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if err := errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
