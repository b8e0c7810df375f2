package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTime is how long a server may take to stop before it is killed.
const stopTime = time.Minute

// process is a server that runs.
type process struct {
	name string
	log  string // file of its output
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended, then err is set
	err  error
}

// startProcess runs a program that will listen on addr, and returns when it accepts connections. Its output is appended
// to the file log. When ctx ends it is killed, and so it is when this process ends.
func startProcess(ctx context.Context, name string, c Command, addr, log string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{name: name, log: log, cmd: exec.CommandContext(ctx, c.Args[0], c.Args[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.Env = append(os.Environ(), c.Env...)
	// It is in no terminal's group of processes, so that Ctrl-C comes to us, who stop it in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := p.ready(ctx, addr); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return p, nil
}

// readyTime is how long a server may take until it accepts connections: one with very many items may read them all.
const readyTime = 10 * time.Minute

// ready waits until addr accepts connections.
func (p *process) ready(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once: %w\n%s", p.name, p.err, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// lastWords is the end of the output.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-1000):]))
}

// alive tells whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the server by SIGTERM and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done: // its exit code says nothing: some die of the signal
		return nil
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("%s did not stop within %v", p.name, stopTime), p.kill())
	}
}

// kill ends the server by SIGKILL and waits for it.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// freeAddress is one of loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
