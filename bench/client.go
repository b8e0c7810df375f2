package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Client speaks as much of the BorgStore protocol as the workloads need. Its methods are safe for concurrent use.
type Client struct {
	base string
	http *http.Client
}

// Client returns a client that keeps up to n connections.
func (s *Server) Client(n int) *Client {
	return &Client{base: "http://" + s.Addr, http: &http.Client{
		Transport: &http.Transport{MaxConnsPerHost: n, MaxIdleConnsPerHost: n, DisableCompression: true},
	}}
}

// Close gives up the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do sends a request with size bytes of body, and copies the answer to w. It returns how many bytes came.
func (c *Client) do(ctx context.Context, method, target string, body io.Reader, size int64, w io.Writer) (int64, error) {
	header := http.Header{"Accept": {"application/vnd.x.borgstore.rest.v1"}}
	return c.send(ctx, method, target, header, body, size, w)
}

// send is do with other headers.
func (c *Client) send(ctx context.Context, method, target string, header http.Header, body io.Reader, size int64, w io.Writer) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+target, body)
	if err != nil {
		return 0, err
	}
	request.ContentLength = size
	if size == 0 {
		request.Body = http.NoBody
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.SetBasicAuth(user, password) // the token as password, for a server of many repositories
	response, err := c.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, target, err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		return 0, fmt.Errorf("%s %s: %s: %s", method, target, response.Status, strings.TrimSpace(string(text)))
	}
	n, err := io.Copy(w, response.Body)
	if err != nil {
		return n, fmt.Errorf("%s %s: %w", method, target, err)
	}
	return n, nil
}

// Create makes the store.
func (c *Client) Create(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/?cmd=create", nil, 0, io.Discard)
	return err
}

// Put stores size bytes of body under name.
func (c *Client) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	_, err := c.do(ctx, http.MethodPost, "/"+name, body, size, io.Discard)
	return err
}

// Get reads an item to w.
func (c *Client) Get(ctx context.Context, name string, w io.Writer) (int64, error) {
	return c.do(ctx, http.MethodGet, "/"+name, nil, 0, w)
}

// List reads the listing of a directory, and returns its length in bytes.
func (c *Client) List(ctx context.Context, directory string) (int64, error) {
	return c.do(ctx, http.MethodGet, "/"+directory+"/", nil, 0, io.Discard)
}

// Stat asks for an item's size only.
func (c *Client) Stat(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodHead, "/"+name, nil, 0, io.Discard)
	return err
}
