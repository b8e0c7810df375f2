package holder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"packhouse/repo/layout"
)

// maxSocketPath is what fits into a socket address.
const maxSocketPath = 107

// Listen opens the holder's socket and replaces one that a dead holder left. Closing the listener removes the file, also from a
// directory that was moved. On a read-only file system it is a socket that only Client finds.
func (c *Claim) Listen() (net.Listener, error) {
	if c.ReadOnly && c.private == "" {
		private, err := os.MkdirTemp("", "packhouse-")
		if err != nil {
			return nil, fmt.Errorf("open a socket: %w", err)
		}
		c.private = private
	}
	l, err := ListenUnix(filepath.Join(c.socketDir(), socketFile))
	if err != nil {
		return nil, fmt.Errorf("open the socket for other processes: %w", err)
	}
	if u, ok := l.(*unixListener); ok && c.own != nil {
		fd, err := unix.FcntlInt(c.own.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the socket for other processes: %w", err), l.Close())
		}
		u.dir = os.NewFile(uintptr(fd), c.own.Name())
	}
	return l, nil
}

func (c *Claim) socketDir() string {
	if c.private != "" {
		return c.private
	}
	return filepath.Join(c.Dir, layout.OwnDir)
}

// Client returns an HTTP client, like the function of that name, for this process itself; valid after Listen.
func (c *Claim) Client() *http.Client { return clientOf(filepath.Join(c.socketDir(), socketFile)) }

// DialSelf connects to this process, after Listen.
func (c *Claim) DialSelf(ctx context.Context) (net.Conn, error) {
	return dialUnix(ctx, filepath.Join(c.socketDir(), socketFile))
}

// ListenUnix listens on a socket that only this user may connect to. A file at path is replaced if it is a socket on which
// no process answers. Closing the listener removes the file.
func ListenUnix(path string) (net.Listener, error) {
	if conn, err := dialUnix(context.Background(), path); err == nil {
		return nil, errors.Join(fmt.Errorf("another process listens on %s", filepath.Base(path)), conn.Close())
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s exists and is not a socket", filepath.Base(path))
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The socket is made under a name of its own and moved into place when its mode is right, so
	// that nobody can connect before.
	making := filepath.Join(filepath.Dir(path), ".socket-"+strconv.Itoa(os.Getpid()))
	_ = os.Remove(making)
	var l *net.UnixListener
	err := throughDir(making, func(short string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(making, 0o600); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(making))
	}
	if err := os.Rename(making, path); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(making))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unixListener{UnixListener: l, path: path, made: info}, nil
}

// unixListener removes its socket, and only its own, when it is first closed: later the file system may have reused the inode for the
// socket of another process.
type unixListener struct {
	*net.UnixListener
	path string
	made os.FileInfo

	once sync.Once
	dir  *os.File // of path, wherever it lies by now; nil: it is found by its path
}

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if l.dir == nil {
			if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.made) {
				_ = os.Remove(l.path)
			}
			return
		}
		defer l.dir.Close()
		fd, name := int(l.dir.Fd()), filepath.Base(l.path)
		var now unix.Stat_t
		made, ok := l.made.Sys().(*syscall.Stat_t)
		if err := unix.Fstatat(fd, name, &now, unix.AT_SYMLINK_NOFOLLOW); err == nil && ok && now.Ino == made.Ino {
			_ = unix.Unlinkat(fd, name, 0)
		}
	})
	return l.UnixListener.Close()
}

// Dial connects to the process that holds dir. An error means that no process does.
func Dial(ctx context.Context, dir string) (net.Conn, error) {
	return dialUnix(ctx, filepath.Join(dir, layout.OwnDir, socketFile))
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var conn net.Conn
	err := throughDir(path, func(short string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// checkPeer refuses a process of another user: if others may write to the directory above a repository, one of them could pretend to be
// its server.
func checkPeer(conn net.Conn) error {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	err = raw.Control(func(fd uintptr) {
		var credErr error
		if peer, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr != nil {
			peer = nil // a system without; the mode of the socket has to do
		}
	})
	if err == nil && peer != nil && !trusts(os.Geteuid(), int(peer.Uid)) {
		err = errStranger
	}
	return err
}

var errStranger = errors.New("the process belongs to another user")

// trusts reports whether a process of user may connect to one of peer: its own or root's; root may connect to any.
func trusts(user, peer int) bool { return user == peer || user == 0 || peer == 0 }

// throughDir calls do with path, or, when that is too long for a socket address, with a name for
// it below an open descriptor of its directory.
func throughDir(path string, do func(string) error) error {
	if len(path) <= maxSocketPath {
		return do(path)
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(filepath.Join("/proc/self/fd", strconv.Itoa(fd), filepath.Base(path)))
}
