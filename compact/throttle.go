package compact

import (
	"context"
	"sync"

	"golang.org/x/time/rate"
)

// politeRate is how many bytes per second background jobs read while clients are being served: enough to finish in reasonable time, and so
// little that backups are not noticeably slower.
const politeRate = 32 << 20

// newLimiter is a limit in bytes per second; 0: none. A second's worth, and any one buffer, may come at once.
func newLimiter(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(max(bytes, bufferSize)))
}

// throttle waits until n bytes more may be read. It returns context.Canceled when ctx ends before.
func (e *Engine) throttle(ctx context.Context, n int64, background bool) error {
	if err := take(ctx, e.limiter, n); err != nil {
		return err
	}
	if background && e.o.Busy != nil && e.o.Busy() > int(e.watching.Load()) {
		return take(ctx, e.polite, n)
	}
	return ctx.Err()
}

func take(ctx context.Context, l *rate.Limiter, n int64) error {
	for l != nil && n > 0 {
		step := min(n, int64(l.Burst()))
		if err := l.WaitN(ctx, int(step)); err != nil {
			return context.Canceled // ctx has ended, or will before the bytes are due
		}
		n -= step
	}
	return nil
}

// Background is for a request that works in the background, as jobs do, and that no client waits for: until end is called, it is none of those for
// which jobs read slowly. pace waits until n bytes more may be read. It returns context.Canceled when ctx ends before.
func (e *Engine) Background() (pace func(ctx context.Context, n int64) error, end func()) {
	e.watching.Add(1)
	return func(ctx context.Context, n int64) error { return e.throttle(ctx, n, true) }, sync.OnceFunc(func() { e.watching.Add(-1) })
}
