package client

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"packhouse/api"
	"packhouse/api/admin"
	"packhouse/api/holder"
	"packhouse/api/local"
	"packhouse/api/stdio"
)

// Client sends requests to the process that serves a data directory. It is for use by one goroutine.
type Client struct {
	HTTP     *http.Client
	Dir      string // that another process holds; "": this one does, or the server is elsewhere
	Far      bool   // the server is elsewhere: what needs its socket cannot be asked of it
	Address  string // URL of the server elsewhere
	ReadOnly bool   // its file system takes no writes: nothing that changes something is sent
	Answered bool   // a request was taken
}

// SilentError reports that the process that holds the directory did not accept a request. The request can be sent again, to the
// process that holds the directory then.
type SilentError struct{ Held *holder.HeldError }

func (e *SilentError) Error() string { return e.Held.Error() + ", which does not answer" }

// Path returns the path of the administration API for a repository.
func Path(name, rest string) string {
	return api.AdminPath(name, rest)
}

// send sends a request and returns the response if it is a success, else an error with its text.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if c.ReadOnly && method != http.MethodGet && path != local.PathCheck {
		// Of a lock that is broken here a running server would not hear.
		return nil, &Refusal{http.StatusForbidden, "the file system is read-only, and nothing can be changed; a running server keeps the locks of its clients in its memory, until it is restarted"}
	}
	if c.Far && strings.HasPrefix(path, local.Prefix) {
		return nil, &Refusal{http.StatusForbidden, "this can be done only on the server itself: run the command there, without --server"}
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://packhouse"+path, reader)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

// do sends a request as send does.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.HTTP.Do(req)
	if c.Dir != "" && !c.Answered && notTaken(req, resp, err) {
		if err == nil {
			resp.Body.Close()
		}
		return nil, &SilentError{holder.HeldBy(c.Dir)}
	}
	if err != nil {
		return nil, c.unreached(err)
	}
	c.Answered = true
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, c.unreached(err)
	}
	if to := resp.Header.Get("Location"); c.Far && resp.StatusCode < 400 && to != "" {
		return nil, &Refusal{resp.StatusCode, fmt.Sprintf("%s sends requests on to %s: give the URL that answers itself", c.Address, strings.TrimSuffix(to, req.URL.RequestURI()))}
	}
	if resp.StatusCode == http.StatusUnauthorized && string(text) == api.Unauthorized {
		return nil, &Refusal{resp.StatusCode, "the server does not know this token"}
	}
	var problem admin.Problem
	if json.Unmarshal(text, &problem) == nil && problem.Detail+problem.Title != "" {
		if problem.Detail == "" {
			problem.Detail = problem.Title
		}
		return nil, &Refusal{resp.StatusCode, problem.Detail}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, &Refusal{resp.StatusCode, "the server answers " + resp.Status}
	}
	return nil, &Refusal{resp.StatusCode, strings.TrimSpace(string(text))}
}

// unreached is the error of a request without an answer, with the server's own address.
func (c *Client) unreached(err error) error {
	if sent, ok := errors.AsType[*url.Error](err); ok {
		err = sent.Err // without the URL, of which the transport replaces the host
	}
	if !c.Far {
		return fmt.Errorf("request to the server: %w", err)
	}
	hint := ""
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		hint = "; for a certificate that no known authority has signed, name the file of one that has: SSL_CERT_FILE=tls-certificate.pem"
	}
	return fmt.Errorf("request to %s: %w%s", c.Address, err, hint)
}

// Refusal is an error status with the server's text.
type Refusal struct {
	Status int // of HTTP
	Text   string
}

func (e *Refusal) Error() string { return e.Text }

// Refused reports whether a request was answered with this status.
func Refused(err error, status int) bool {
	var no *Refusal
	return errors.As(err, &no) && no.Status == status
}

// notTaken reports whether the holder has certainly not begun a request: it was not running, it said so, it did not get the whole
// request, or the request only had to be answered.
func notTaken(req *http.Request, resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(stdio.HeaderLeaving) != ""
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return false
	}
	// What was read of another body is gone. Ours with a GetBody are short JSON, sent whole or not at all.
	again := req.Body == nil || req.GetBody != nil
	return op.Op == "dial" || op.Op == "write" && again || req.Method == http.MethodGet
}

// Request sends a request and decodes the answer into result, unless result is nil. It also returns the raw text.
func (c *Client) Request(ctx context.Context, method, path string, body, result any) (json.RawMessage, error) {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return decode(resp, result)
}

// post sends a body unchanged, and decodes the answer as Request does.
func (c *Client) post(ctx context.Context, path string, body io.Reader, result any) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://packhouse"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return decode(resp, result)
}

// decode reads an answer to its end, and decodes it into result unless that is nil.
func decode(resp *http.Response, result any) (json.RawMessage, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("request to the server: %w", err)
	}
	if result != nil {
		if err := json.Unmarshal(text, result); err != nil {
			return nil, fmt.Errorf("read the server's answer: %w", err)
		}
	}
	return text, nil
}

// Lines sends a request and calls each with every JSON document of the answer.
func (c *Client) Lines(ctx context.Context, method, path string, body any, each func(json.RawMessage) error) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	for {
		var document json.RawMessage
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the server's answer ended early: %w", err)
		}
		if err := each(document); err != nil {
			return err
		}
	}
}
