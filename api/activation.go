package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// OpenListeners returns the sockets that the service manager passed, else opens addresses. passed tells which.
func OpenListeners(ctx context.Context, addresses []string) (listeners []net.Listener, passed bool, err error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, false, fmt.Errorf("sockets passed by the service manager: %w", err)
	}
	for i, l := range handed {
		if l == nil {
			return nil, false, errors.Join(fmt.Errorf("socket %d passed by the service manager is not a stream socket", i+3), CloseAll(handed))
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the service manager's
		}
	}
	if len(handed) > 0 {
		return handed, true, nil
	}
	for _, address := range addresses {
		l, err := Listen(ctx, address)
		if err != nil {
			return nil, false, errors.Join(err, CloseAll(listeners))
		}
		listeners = append(listeners, l)
	}
	return listeners, false, nil
}

// PassedListener returns the only socket that the service manager has passed. Unlike OpenListeners, and like borgstore-server-rest,
// it ignores LISTEN_PID and LISTEN_FDNAMES.
func PassedListener() (net.Listener, error) {
	if n := os.Getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("exactly one socket is needed: LISTEN_FDS is %q, want \"1\"", n)
	}
	file := os.NewFile(3, "passed socket")
	l, err := net.FileListener(file)
	_ = file.Close()
	if err != nil {
		return nil, fmt.Errorf("descriptor 3 is not a listening socket: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l, nil
}

// CloseAll closes listeners; nil ones are left out.
func CloseAll(listeners []net.Listener) error {
	var errs error
	for _, l := range listeners {
		if l != nil {
			errs = errors.Join(errs, l.Close())
		}
	}
	return errs
}
