package profile

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

// profiler writes the files.
type profiler struct {
	dir string
	cpu *os.File // nil: no profile runs
}

// OnSignal makes this process write profiles to dir, which is created if missing, until stop is called; stop waits for profiles
// that are being written. If dir is "" it does nothing. Profiles that cannot be written are logged.
func OnSignal(dir string, log *slog.Logger) (stop func()) {
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
