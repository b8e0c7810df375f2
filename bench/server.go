package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Program is a server to measure.
type Program struct {
	Name    string   // in the results
	Command []string // program and first arguments
	Durable bool     // an acknowledged write is on stable storage
	// Many is set for a server of many repositories: `packhouse serve`. Else it takes the options of
	// borgstore-server-rest.
	Many bool
}

// options are the arguments for a store in dir.
func (p Program) options(dir, addr string) ([]string, error) {
	if p.Many {
		return []string{"--data-dir", dir, "--listen", addr, "--log-level", "warn"}, nil
	}
	host, port, err := net.SplitHostPort(addr)
	return []string{"--backend", "file://" + dir, "--host", host, "--port", port, "--username", user, "--password", password}, err
}

// Server is a running Program with one store.
type Server struct {
	Program Program
	Dir     string // of the store
	Addr    string

	cmd  *exec.Cmd
	done chan error
	heap atomic.Int64  // the most anonymous memory seen, in bytes
	end  chan struct{} // closed by Stop
}

// Start runs the program with the store in dir, which may be missing, and returns when it accepts connections.
// Its output goes to dir.log.
func (p Program) Start(ctx context.Context, dir string) (*Server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	options, err := p.options(dir, addr)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Clean(dir)+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := append(p.Command[1:len(p.Command):len(p.Command)], options...)
	s := &Server{Program: p, Dir: dir, Addr: addr, cmd: exec.CommandContext(ctx, p.Command[0], args...), done: make(chan error, 1),
		end: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = append(os.Environ(), "PACKHOUSE_TOKEN="+password)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	go s.watch()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return s, conn.Close()
		}
		select {
		case err := <-s.done:
			close(s.end)
			return nil, fmt.Errorf("%s ended at once (%w); see %s.log", p.Name, err, dir)
		case <-time.After(time.Millisecond):
		}
	}
}

const user, password = "bench", "0123456789abcdef"

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	close(s.end)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", s.Program.Name, err)
	}
	var exit *exec.ExitError
	if err := <-s.done; err != nil && !errors.As(err, &exit) {
		return err // an exit code says nothing here: the reference dies of the signal
	}
	return nil
}

// watch looks at the server's memory until Stop.
func (s *Server) watch() {
	for {
		if now, err := s.memory("RssAnon"); err == nil && now > s.heap.Load() {
			s.heap.Store(now)
		}
		select {
		case <-s.end:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// PeakMemory is the most resident memory the server ever had since its start, in bytes. The pages of a
// file that it maps, such as the index, are part of it although the system may take them back at any time.
func (s *Server) PeakMemory() (int64, error) { return s.memory("VmHWM") }

// PeakHeap is the most memory of its own that the server was seen to have: without mapped files.
func (s *Server) PeakHeap() int64 { return s.heap.Load() }

// Processor is the processor time that the server's threads have had so far.
func (s *Server) Processor() (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	total := time.Duration(0)
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended meanwhile
		}
		var onProcessor int64 // nanoseconds
		if _, scan := fmt.Sscan(string(text), &onProcessor); errors.Join(err, scan) != nil {
			return 0, fmt.Errorf("processor time of %s: %w", s.Program.Name, errors.Join(err, scan))
		}
		total += time.Duration(onProcessor)
	}
	if total == 0 {
		return 0, fmt.Errorf("the system does not tell the processor time of %s", s.Program.Name)
	}
	return total, nil
}

// memory reads a value of the process's status, in bytes.
func (s *Server) memory(name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", s.Program.Name, err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, name+": %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("the process status has no %s", name)
}
