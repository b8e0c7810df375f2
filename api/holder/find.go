package holder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"packhouse/repo/layout"
)

// Found is a connection to the process that holds a repository.
type Found struct {
	net.Conn
	Name string // the repository's there; "" when it is the only one
}

// Find connects to the process that holds the repository in dir: a server of the directory above, or a holder of the repository.
// If there is none, it calls start to start a holder. It waits for a holder that is starting or ending until ctx ends; then
// the error is a *HeldError with its process ID.
func Find(ctx context.Context, dir string, start func(context.Context) error) (*Found, error) {
	above := filepath.Dir(dir)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		if Held(above) {
			conn, err := Dial(ctx, above)
			if err == nil {
				return &Found{conn, layout.NameIn(dir)}, nil
			}
			if errors.Is(err, errStranger) {
				return nil, fmt.Errorf("%w; that process runs as another user", &HeldError{What: "repository", PID: pidOf(above), Up: true})
			}
		} else if conn, err := Dial(ctx, dir); err == nil {
			return &Found{conn, ""}, nil
		} else if !Held(dir) {
			if err := start(ctx); err != nil && ctx.Err() == nil {
				return nil, err
			}
			pause = 5 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			held := &HeldError{What: "repository", PID: pidOf(dir)}
			if Held(above) {
				held = &HeldError{What: "repository", PID: pidOf(above), Up: true}
			}
			return nil, fmt.Errorf("%w, which does not answer", held)
		case <-time.After(pause):
		}
	}
}
