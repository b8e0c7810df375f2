package holder_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"packhouse/api/holder"
	"packhouse/repo/layout"
)

func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func release(t testing.TB, c *holder.Claim) {
	t.Helper()
	if err := c.Release(); err != nil {
		t.Errorf("release: %v", err)
	}
}

// TestClaimRace: of many that begin at once one wins, and the others learn its process ID.
func TestClaimRace(t *testing.T) {
	dir := filepath.Join(tempDir(t), "a", "b")
	for range 50 {
		var won atomic.Pointer[holder.Claim]
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				claim, err := holder.ClaimRepository(dir)
				var held *holder.HeldError
				switch {
				case err == nil && !won.CompareAndSwap(nil, claim):
					t.Error("two claims of one directory")
				case err == nil, errors.As(err, &held) && (held.PID == os.Getpid() || held.PID == 0):
				default:
					t.Errorf("claim: %v", err)
				}
			})
		}
		wait.Wait()
		claim := won.Load()
		if claim == nil {
			t.Fatal("nobody won")
		}
		if !holder.Held(dir) {
			t.Error("Held: got false while it is")
		}
		claim.Tidy(false)
		release(t, claim)
		if holder.Held(dir) {
			t.Error("Held: got true after the release")
		}
	}
}

// TestServerOrHolder: a server of a directory and the holder of a repository in it are never there together.
func TestServerOrHolder(t *testing.T) {
	top := tempDir(t)
	dir := filepath.Join(top, "r")
	now, cancel := context.WithCancel(t.Context())
	cancel() // a server that does not wait
	servers, holders := 0, 0
	for range 200 {
		var data, one *holder.Claim
		var wait sync.WaitGroup
		wait.Go(func() {
			var err error
			var held *holder.HeldError
			if data, err = holder.ClaimData(now, top); err != nil && !errors.As(err, &held) {
				t.Errorf("claim of the data directory: %v", err)
			}
		})
		wait.Go(func() {
			var err error
			var held *holder.HeldError
			if one, err = holder.ClaimRepository(dir); err != nil && (!errors.As(err, &held) || !held.Up) {
				t.Errorf("claim of the repository: %v", err)
			}
		})
		wait.Wait()
		if data != nil && one != nil {
			t.Fatal("both have it")
		}
		if data != nil {
			servers++
			release(t, data)
		}
		if one != nil {
			holders++
			release(t, one)
		}
	}
	if servers+holders == 0 {
		t.Error("neither ever had it")
	}
}

// TestTidy: what was made goes, what was there stays.
func TestTidy(t *testing.T) {
	top := tempDir(t)
	claim, err := holder.ClaimRepository(filepath.Join(top, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	claim.Tidy(false)
	release(t, claim)
	if entries, _ := os.ReadDir(top); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}

	dir := filepath.Join(top, "there")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{false, true} {
		if claim, err = holder.ClaimRepository(dir); err != nil {
			t.Fatal(err)
		}
		claim.Tidy(whole)
		release(t, claim)
		if _, err := os.Stat(dir); (err == nil) == whole {
			t.Errorf("Tidy(%v): the directory that was there: %v", whole, err)
		}
	}

	if err := os.MkdirAll(filepath.Join(dir, "foreign"), 0o700); err != nil {
		t.Fatal(err)
	}
	if claim, err = holder.ClaimRepository(dir); err != nil {
		t.Fatal(err)
	}
	claim.Tidy(true)
	release(t, claim)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != "foreign" {
		t.Errorf("left: %v, want foreign alone", entries)
	}
}

// TestSocket: also below a path longer than a socket address, and over one that a dead holder left.
func TestSocket(t *testing.T) {
	for _, name := range []string{"short", strings.Repeat("long", 50)} {
		dir := filepath.Join(tempDir(t), name)
		claim, err := holder.ClaimRepository(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer release(t, claim)
		if conn, err := holder.Dial(t.Context(), dir); err == nil {
			conn.Close()
			t.Error("connected to nobody")
		}
		socket := filepath.Join(dir, layout.OwnDir, "socket")
		for range 2 {
			l, err := claim.Listen()
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(socket)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode: got %v, %v; want 0600", info.Mode(), err)
			}
			accepted := make(chan net.Conn, 1)
			go func() {
				conn, _ := l.Accept()
				accepted <- conn
			}()
			conn, err := holder.Dial(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			(<-accepted).Close()
			// As after a kill: the file stays, nobody listens.
			if err := os.Rename(socket, socket+".kept"); err != nil {
				t.Fatal(err)
			}
			l.Close()
			if err := os.Rename(socket+".kept", socket); err != nil {
				t.Fatal(err)
			}
		}
		l, err := claim.Listen()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket after Close: %v, want that it is gone", err)
		}
	}
}

// TestClaimBesideTidying: another process that has looked into the directory removes what it made there at any moment.
func TestClaimBesideTidying(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, layout.OwnDir)
	stop := make(chan struct{})
	var tidying sync.WaitGroup
	for range 2 {
		tidying.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = os.Mkdir(own, 0o700)
				_ = os.Remove(own) // fails while there is a lock in it
			}
		})
	}
	for range 100 {
		c, err := holder.ClaimRepository(dir)
		if err != nil {
			t.Error(err)
			break
		}
		c.Tidy(false)
		if err := c.Release(); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	tidying.Wait()
}
