//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestCrashStdio is TestCrash for clients over stdio: each has a stdio process of its own, as over ssh,
// and what is killed is the process in the background that holds the repository for all of them. Nobody
// starts it again but they.
func TestCrashStdio(t *testing.T) {
	t.Parallel()
	seed, random := crashRandom(t)
	h := &holderProcess{t: t, home: t.TempDir()}
	h.dir = filepath.Join(h.home, "repository")
	letGo(t, h.dir)
	t.Cleanup(h.pipes.Wait) // when their clients have left
	workers := make([]*crashWorker, 4)
	for i := range workers {
		client := h.client()
		if i == 0 {
			if err := client.create(); err != nil {
				t.Fatal(err)
			}
		}
		workers[i] = storeWorker(t, client, "repository", i, seed)
	}
	crash(t, h, h.home, workers, random)
}

// holderProcess is the victim.
type holderProcess struct {
	t         *testing.T
	home, dir string         // login directory; that of the repository in it
	backend   string         // the latter as seen from the former; "": repository
	pipes     sync.WaitGroup // stdio processes started by launch
}

func (h *holderProcess) command() *exec.Cmd {
	cmd := exec.Command(packhouse(), "borgstore-server-rest", "--stdio", "--quota", "1T", "--backend", "FILE:"+cmp.Or(h.backend, "repository"))
	cmd.Dir = h.home
	cmd.Env = append(os.Environ(), "PACKHOUSE_HOLD_IDLE=20s")
	return cmd
}

// launch runs a stdio process that has nothing to ask: it starts a holder and ends.
func (h *holderProcess) launch(...*os.File) {
	cmd := h.command()
	if err := cmd.Start(); err != nil {
		h.t.Error(err)
		return
	}
	h.pipes.Go(func() { _ = cmd.Wait() })
}

// start does nothing: the first request finds or starts a holder.
func (h *holderProcess) start() {}

func (h *holderProcess) kill() { h.end(syscall.SIGKILL) }
func (h *holderProcess) stop() { h.end(syscall.SIGTERM) }

// end ends the holder, if there is one.
func (h *holderProcess) end(signal syscall.Signal) {
	h.t.Helper()
	pid := holderOf(h.dir)
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, signal)
	for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("the holder, process %d, still runs a minute after %v", pid, signal)
		}
	}
}

// client is a storeClient over a stdio process, which it starts, and starts again when that has ended.
func (h *holderProcess) client() *storeClient {
	transport := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return h.dial() }}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &storeClient{base: "http://stdio", http: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

func (h *holderProcess) dial() (net.Conn, error) {
	cmd := h.command()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = to
	err = cmd.Start()
	to.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	h.pipes.Go(func() { _ = cmd.Wait() }) // it fails when its request was lost
	return &stdioConn{in, out}, nil
}

// stdioConn is a connection to the stdin and stdout of a process.
type stdioConn struct {
	io.WriteCloser
	out *os.File
}

func (c *stdioConn) Read(p []byte) (int, error)       { return c.out.Read(p) }
func (c *stdioConn) Close() error                     { return errors.Join(c.WriteCloser.Close(), c.out.Close()) }
func (c *stdioConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "stdio"} }
func (c *stdioConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "stdio"} }
func (c *stdioConn) SetDeadline(time.Time) error      { return nil }
func (c *stdioConn) SetReadDeadline(time.Time) error  { return nil }
func (c *stdioConn) SetWriteDeadline(time.Time) error { return nil }
