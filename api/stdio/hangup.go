package stdio

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	_ "packhouse/internal/platform" // Linux only
)

// Hangup returns a channel that is closed when the other end of a pipe is closed, also while nobody reads. nil: not supported.
func Hangup(ctx context.Context, in io.Reader) <-chan struct{} {
	f, ok := in.(*os.File)
	if !ok {
		return nil
	}
	closed := make(chan struct{})
	fd := int32(f.Fd())
	go func() {
		for ctx.Err() == nil {
			fds := []unix.PollFd{{Fd: fd, Events: unix.POLLRDHUP}}
			n, err := unix.Poll(fds, 1000)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			if n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
				close(closed)
				return
			}
		}
	}()
	return closed
}
