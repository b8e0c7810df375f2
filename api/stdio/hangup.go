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
	return hungUp(ctx, in, unix.POLLRDHUP)
}

// Unread returns a channel that is closed when nobody can read any more what is written to out. nil: not supported. Where in and
// out are one socket, a client may have ended its half alone and still read answers.
func Unread(ctx context.Context, out io.Writer) <-chan struct{} { return hungUp(ctx, out, 0) }

func hungUp(ctx context.Context, file any, events int16) <-chan struct{} {
	f, ok := file.(*os.File)
	if !ok {
		return nil
	}
	closed := make(chan struct{})
	fd := int32(f.Fd())
	go func() {
		for ctx.Err() == nil {
			fds := []unix.PollFd{{Fd: fd, Events: events}}
			n, err := unix.Poll(fds, 1000)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			if n > 0 && fds[0].Revents&(unix.POLLHUP|events|unix.POLLERR|unix.POLLNVAL) != 0 {
				close(closed)
				return
			}
		}
	}()
	return closed
}
