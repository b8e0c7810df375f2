package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"packhouse/compact"
)

// elements sends a GET and calls each with every element of the list in the answer's member of the given name. Only one element
// is in memory at a time.
func (c *Client) elements(ctx context.Context, path, member string, each func(json.RawMessage) error) error {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return eachElement(resp.Body, member, each)
}

// eachElement reads one JSON object to its end, and the stream with it, and calls each with every element of the list
// that is its member of that name. One element is in memory at a time.
func eachElement(r io.Reader, member string, each func(json.RawMessage) error) error {
	var fault error // of each
	decoder := json.NewDecoder(r)
	err := func() error {
		if err := expectToken(decoder, json.Delim('{')); err != nil {
			return err
		}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			var value json.RawMessage
			if name != member {
				if err := decoder.Decode(&value); err != nil {
					return err
				}
				continue
			}
			if err := expectToken(decoder, json.Delim('[')); err != nil {
				return err
			}
			for decoder.More() {
				if err := decoder.Decode(&value); err != nil {
					return err
				}
				if fault = each(value); fault != nil {
					return fault
				}
			}
			if err := expectToken(decoder, json.Delim(']')); err != nil {
				return err
			}
		}
		if err := expectToken(decoder, json.Delim('}')); err != nil {
			return err
		}
		// A server that fails in the middle cuts the answer off, which may look whole up to there.
		if _, err := decoder.Token(); err != io.EOF {
			return cmp.Or(err, errors.New("unexpected text at its end"))
		}
		return nil
	}()
	switch {
	case fault != nil || err == nil:
		return fault
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the server's answer: %w", err)
}

func expectToken(d *json.Decoder, want json.Token) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = fmt.Errorf("got %v, expected %v", got, want)
	}
	return err
}

// events reads the stream of a job's events until it ends, and returns the last one.
func (c *Client) events(ctx context.Context, path string, show func(compact.Job)) (job compact.Job, err error) {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return job, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	event := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || event == "error" {
			continue
		}
		job = compact.Job{}
		if err := json.Unmarshal([]byte(text), &job); err != nil {
			return job, fmt.Errorf("read the server's answer: %w", err)
		}
		show(job)
	}
	return job, nil
}
