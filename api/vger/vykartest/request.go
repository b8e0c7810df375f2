package vykartest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
)

// StatusError is an answer with a status of 400 or more that the command could not go on with.
type StatusError struct {
	Request string // method and target below the repository
	Status  int
	Text    string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: HTTP %d %s", e.Request, e.Status, strings.TrimSpace(e.Text))
}

// Mutates tells whether a request changes the repository.
func Mutates(r *http.Request) bool {
	switch r.Method {
	case http.MethodPut, http.MethodDelete:
		return true
	case http.MethodPost:
		return !r.URL.Query().Has("verify-packs")
	}
	return false
}

// answer is what came of one request.
type answer struct {
	status int
	header http.Header
	length int64 // as announced; negative: not
	body   []byte
}

// request is one request, which may be sent several times.
type request struct {
	method, target string // target follows the base: "/key", "?repack"
	body           []byte
	header         [][2]string
}

func (r request) String() string { return r.method + " " + r.target }

// send sends a request, again after failures that may pass. An answer of 404 is returned, other answers from 400
// on are a *StatusError.
func (c *Client) send(r request) (answer, error) {
	delay := c.o.Delay
	for attempt := 0; ; attempt++ {
		got, err := c.once(r)
		passing := err != nil && !errors.Is(err, ErrKilled) && !errors.Is(err, syscall.ECONNREFUSED)
		if err == nil && got.status >= 400 && got.status != http.StatusNotFound {
			passing = got.status == http.StatusTooManyRequests || got.status >= 500
			err = &StatusError{r.String(), got.status, string(got.body)}
		}
		if err == nil || !passing || attempt == c.o.Retries {
			return got, err
		}
		c.o.Sleep(delay)
		delay *= 2
	}
}

// once sends a request one time.
func (c *Client) once(r request) (answer, error) {
	target := c.base + r.target
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	q, err := http.NewRequest(r.method, target, body)
	if err != nil {
		return answer{}, err
	}
	for name, values := range c.o.Header {
		q.Header[name] = values
	}
	for _, h := range r.header {
		q.Header.Set(h[0], h[1])
	}
	c.sent++
	response, err := c.o.Transport.RoundTrip(q)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", r, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%s: answer: %w", r, err)
	}
	return answer{response.StatusCode, response.Header, response.ContentLength, text}, nil
}

// get reads an object. ErrMissing: there is none.
func (c *Client) get(key string) ([]byte, error) {
	got, err := c.send(request{method: "GET", target: "/" + key})
	if err != nil {
		return nil, err
	}
	if got.status == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", key, ErrMissing)
	}
	return got.body, nil
}

// getRange reads part of an object, and wants exactly that.
func (c *Client) getRange(key string, offset, length int64) ([]byte, error) {
	got, err := c.send(request{method: "GET", target: "/" + key, header: [][2]string{{"Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)}}})
	if err != nil {
		return nil, err
	}
	if got.status == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", key, ErrMissing)
	}
	window := fmt.Sprintf("bytes %d-%d/", offset, offset+length-1)
	if got.status != http.StatusPartialContent || !strings.HasPrefix(got.header.Get("Content-Range"), window) || int64(len(got.body)) != length {
		return nil, fmt.Errorf("%s: range %d+%d: status %d, %q, %d bytes: %w", key, offset, length, got.status, got.header.Get("Content-Range"), len(got.body), ErrDamaged)
	}
	return got.body, nil
}

// size asks for the size of an object. ErrMissing: there is none.
func (c *Client) size(key string) (int64, error) {
	got, err := c.send(request{method: "HEAD", target: "/" + key})
	switch {
	case err != nil:
		return 0, err
	case got.status == http.StatusNotFound:
		return 0, fmt.Errorf("%s: %w", key, ErrMissing)
	case got.length < 0:
		return 0, fmt.Errorf("HEAD %s: no length: %w", key, ErrDamaged)
	}
	return got.length, nil
}

// exists asks whether there is an object.
func (c *Client) exists(key string) (bool, error) {
	got, err := c.send(request{method: "HEAD", target: "/" + key})
	return err == nil && got.status != http.StatusNotFound, err
}

// put stores an object. Packs are announced by their name, all else by its hash; V'Ger 0.7.1 announces it, too.
func (c *Client) put(key string, body []byte) error {
	sum := nameOf(key)
	if sum == "" {
		sum = hash(body).String()
	}
	if body == nil {
		body = []byte{}
	}
	r := request{method: "PUT", target: "/" + key, body: body, header: [][2]string{{"X-Content-BLAKE2b", sum}}}
	return c.acknowledged(r)
}

// remove deletes an object; that there is none is as good.
func (c *Client) remove(key string) error {
	_, err := c.send(request{method: "DELETE", target: "/" + key})
	return err
}

// list reads the keys below a directory.
func (c *Client) list(dir string) ([]string, error) {
	target := "?list"
	if dir != "" {
		target = "/" + dir + "?list"
	}
	r := request{method: "GET", target: target}
	got, err := c.send(r)
	if err != nil {
		return nil, err
	}
	var keys []string
	if got.status == http.StatusNotFound {
		return nil, &StatusError{r.String(), got.status, string(got.body)}
	}
	if err := json.Unmarshal(got.body, &keys); err != nil {
		return nil, fmt.Errorf("list %s: %w: %w", dir, ErrDamaged, err)
	}
	return keys, nil
}

// acknowledged sends a request of which only success matters.
func (c *Client) acknowledged(r request) error {
	got, err := c.send(r)
	if err == nil && got.status == http.StatusNotFound {
		err = &StatusError{r.String(), got.status, string(got.body)}
	}
	return err
}

// postJSON sends a plan the way the client writes it, indented, and reads the answer.
func (c *Client) postJSON(target string, plan, into any) error {
	body, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		return err
	}
	r := request{method: "POST", target: target, body: body, header: [][2]string{{"Content-Type", "application/json; charset=utf-8"}}}
	got, err := c.send(r)
	if err != nil {
		return err
	}
	if got.status == http.StatusNotFound {
		return &StatusError{r.String(), got.status, string(got.body)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(got.body, into); err != nil {
		return fmt.Errorf("%s: %w: %w", r, ErrDamaged, err)
	}
	return nil
}
