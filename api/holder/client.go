package holder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"

	"packhouse/repo/layout"
)

// Paths that a holder answers on its socket, in addition to those of its repositories.
const (
	PathYield = "/-/local/yield" // POST: finish what runs, let go of the repository, and end
)

// Client returns an HTTP client for the holder of dir. Its requests go to the host "packhouse", each on its own connection,
// because on an idle connection the notice of a holder that ends would arrive without a request.
func Client(dir string) *http.Client { return clientOf(filepath.Join(dir, layout.OwnDir, socketFile)) }

func clientOf(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialUnix(ctx, socket)
			if err != nil {
				return nil, err
			}
			return &firstAsks{Conn: conn}, nil
		},
	}}
}

// firstAsks is a connection on which a holder that is ending may send its notice before a request was sent. For package http that is an
// answer without a request, and it returns an error that does not tell whether the request was begun. Here it is an error of the
// dial: nothing was begun.
type firstAsks struct {
	net.Conn
	asked atomic.Bool
}

var errLeft = errors.New("the process that has the directory open is ending")

func (c *firstAsks) Write(p []byte) (int, error) {
	c.asked.Store(true)
	return c.Conn.Write(p)
}

func (c *firstAsks) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.asked.Load() {
		return 0, &net.OpError{Op: "dial", Net: "unix", Err: errLeft}
	}
	return n, err
}

// Yield asks the holder of dir to end. nil: it will end, or no process holds dir.
func Yield(ctx context.Context, dir string) error {
	client := Client(dir)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://packhouse"+PathYield, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil // gone, or going
	}
	defer response.Body.Close()
	if response.StatusCode < 300 || response.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return nil
	}
	return fmt.Errorf("%w: %s", &HeldError{What: "repository", PID: pidOf(dir)}, strings.TrimSpace(string(text)))
}
