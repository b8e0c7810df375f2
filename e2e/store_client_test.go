//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// storeClient speaks the BorgStore protocol to one repository, as little of it as the tests need.
type storeClient struct {
	base string // URL of the repository, without credentials
	http *http.Client
}

func newStoreClient(s *server, repository string, connections int) *storeClient {
	return &storeClient{base: s.scheme + "://" + s.addr + "/" + repository, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true},
		Timeout:   2 * time.Minute,
	}}
}

// statusError is an answer that is not success.
type statusError struct {
	request string
	status  int
	text    string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.request, e.status, strings.TrimSpace(e.text))
}

// do sends one request and returns the answer's body. An error that is no *statusError means that it is not
// known whether the server did it.
func (c *storeClient) do(method, target string, body []byte) ([]byte, error) {
	request, err := http.NewRequest(method, c.base+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/vnd.x.borgstore.rest.v1")
	request.SetBasicAuth("packhouse", token)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusPartialContent {
		return nil, &statusError{method + " " + target, response.StatusCode, string(answer)}
	}
	return answer, nil
}

func (c *storeClient) create() error {
	_, err := c.do("POST", "/?cmd=create", nil)
	return err
}

func (c *storeClient) store(name string, value []byte) error {
	_, err := c.do("POST", "/"+name, value)
	return err
}

func (c *storeClient) load(name string) ([]byte, error) { return c.do("GET", "/"+name, nil) }

func (c *storeClient) delete(name string) error {
	_, err := c.do("DELETE", "/"+name, nil)
	return err
}

func (c *storeClient) move(current, name string) error {
	query := url.Values{"cmd": {"move"}, "current": {current}, "new": {name}}
	_, err := c.do("POST", "/?"+query.Encode(), nil)
	return err
}

// source is a range of an item for defrag.
type source struct {
	name         string
	offset, size int
}

func (s source) MarshalJSON() ([]byte, error) { return json.Marshal([]any{s.name, s.offset, s.size}) }

// defrag makes the item target from the ranges, or one named by its SHA-256 below namespace if target is empty.
func (c *storeClient) defrag(sources []source, target, namespace string) (string, error) {
	body, err := json.Marshal(sources)
	if err != nil {
		return "", err
	}
	query := url.Values{"cmd": {"defrag"}, "target": {target}, "algorithm": {"sha256"}, "namespace": {namespace}}
	name, err := c.do("POST", "/?"+query.Encode(), body)
	return string(name), err
}

// listed is one entry of a listing.
type listed struct {
	Name      string
	Size      int64
	Directory bool
}

func (c *storeClient) list(directory string) ([]listed, error) {
	answer, err := c.do("GET", "/"+directory+"/", nil)
	if err != nil {
		return nil, err
	}
	var entries []listed
	return entries, json.Unmarshal(answer, &entries)
}

// walk calls visit with the full name and size of every item below directory.
func (c *storeClient) walk(directory string, visit func(name string, size int64)) error {
	entries, err := c.list(directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name
		if directory != "" {
			name = directory + "/" + entry.Name
		}
		if !entry.Directory {
			visit(name, entry.Size)
		} else if err := c.walk(name, visit); err != nil {
			return err
		}
	}
	return nil
}

// usage is how many bytes count against the quota.
func (c *storeClient) usage() (int64, error) {
	answer, err := c.do("POST", "/?cmd=quota", nil)
	if err != nil {
		return 0, err
	}
	var quota struct{ Usage int64 }
	return quota.Usage, json.Unmarshal(answer, &quota)
}
