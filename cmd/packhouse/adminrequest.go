package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"packhouse/api/holder"
	"packhouse/api/local"
	"packhouse/api/stdio"
)

// of is the path of our API for a repository.
func of(name, rest string) string {
	if name == "" {
		return "/-/" + rest
	}
	return "/" + name + "/-/" + rest
}

// send asks and returns the response if it is good; else its error's text.
func (d *adminClient) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if d.reads && method != http.MethodGet && path != local.PathCheck {
		// Of a lock that is broken here a running server would not hear.
		return nil, &refusal{http.StatusForbidden, "the file system is read-only, and nothing can be changed; a running server keeps the locks of its clients in its memory, until it is restarted"}
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
	return d.do(req)
}

// do sends a request as send does.
func (d *adminClient) do(req *http.Request) (*http.Response, error) {
	resp, err := d.client.Do(req)
	if d.dir != "" && !d.answered && notTaken(req, resp, err) {
		if err == nil {
			resp.Body.Close()
		}
		return nil, &silentError{holder.HeldBy(d.dir)}
	}
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	d.answered = true
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, &refusal{resp.StatusCode, "the server does not know this token"}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	var problem struct{ Detail, Title string }
	if json.Unmarshal(text, &problem) == nil && problem.Detail+problem.Title != "" {
		if problem.Detail == "" {
			problem.Detail = problem.Title
		}
		return nil, &refusal{resp.StatusCode, problem.Detail}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, &refusal{resp.StatusCode, "the server answers " + resp.Status}
	}
	return nil, &refusal{resp.StatusCode, strings.TrimSpace(string(text))}
}

// refusal is an answer that says no.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// refused tells whether a request was answered with this status.
func refused(err error, status int) bool {
	var no *refusal
	return errors.As(err, &no) && no.status == status
}

// each runs do for every repository. What is wrong with one does not keep the others from their turn: the error is that
// of each that failed, with its name. When nobody answers any more, or the command is to end, the rest is left.
func (d *adminClient) each(ctx context.Context, names []string, do func(name string) error) error {
	var all error
	for _, name := range names {
		err := do(name)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", shownName(name), err))
		}
		var op *net.OpError
		if !d.answered || ctx.Err() != nil || errors.As(err, &op) && op.Op == "dial" {
			break
		}
	}
	return all
}

// notTaken tells whether the holder surely did nothing about a request: it was not there, it said so, or there was
// nothing to do but to answer.
func notTaken(req *http.Request, resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(stdio.HeaderLeaving) != ""
	}
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || req.Method == http.MethodGet)
}

// request sends and decodes the answer into result; nil: there is none to speak of. It returns the raw text too.
func (d *adminClient) request(ctx context.Context, method, path string, body, result any) (json.RawMessage, error) {
	resp, err := d.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if result != nil {
		if err := json.Unmarshal(text, result); err != nil {
			return nil, fmt.Errorf("the server's answer: %w", err)
		}
	}
	return text, nil
}

// lines sends and calls each with every JSON document of the answer.
func (d *adminClient) lines(ctx context.Context, method, path string, body any, each func(json.RawMessage) error) error {
	resp, err := d.send(ctx, method, path, body)
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
			return fmt.Errorf("the server's answer broke off: %w", err)
		}
		if err := each(document); err != nil {
			return err
		}
	}
}
