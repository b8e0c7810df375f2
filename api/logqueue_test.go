package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"packhouse/api"
)

// heldWriter lets no Write begin before it is released.
type heldWriter struct {
	bytes.Buffer
	release chan struct{}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	<-w.release
	return w.Buffer.Write(p)
}

// TestBlockedLogHoldsNoReply: a log that takes no line for a while, as a full pipe does, does not show in the replies, and
// nothing is lost.
func TestBlockedLogHoldsNoReply(t *testing.T) {
	log := &heldWriter{release: make(chan struct{})}
	f := startEcho(t, api.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	for i := range 5 {
		if response, _ := get(t, f.Addr, "GET", fmt.Sprintf("/r/%d", i)); response.StatusCode != http.StatusOK {
			t.Fatalf("got %d", response.StatusCode)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.Server.FlushLog(ctx); err == nil {
		t.Error("the log was flushed although it is blocked")
	}
	close(log.release)
	if err := f.Server.FlushLog(t.Context()); err != nil {
		t.Fatalf("FlushLog: %v", err)
	}
	var keys []string
	for line := range strings.Lines(log.String()) {
		_, key, _ := strings.Cut(line, "key=")
		key, _, _ = strings.Cut(key, " ")
		keys = append(keys, key)
	}
	if got, want := strings.Join(keys, " "), "/0 /1 /2 /3 /4"; got != want {
		t.Errorf("got lines of %s, want %s", got, want)
	}
}

// TestDurationInSeconds: how long a request took is a number of seconds.
func TestDurationInSeconds(t *testing.T) {
	log := &heldWriter{release: make(chan struct{})}
	close(log.release)
	f := startEcho(t, api.Options{Logger: slog.New(slog.NewJSONHandler(log, nil))})
	began := time.Now()
	get(t, f.Addr, "GET", "/r/x")
	took := time.Since(began).Seconds()
	if err := f.Server.FlushLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	var line struct {
		Seconds float64 `json:"duration_seconds"`
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Seconds <= 0 || line.Seconds > took {
		t.Errorf("got %v s of %v s, %v: %s", line.Seconds, took, err, log)
	}
}

// TestLostLinesAreCounted: only so many lines wait for a log that takes none. It says how many others there were.
func TestLostLinesAreCounted(t *testing.T) {
	log := &heldWriter{release: make(chan struct{})}
	q := api.NewLogQueue(slog.NewTextHandler(log, nil))
	const more = 10
	// As many may be with the log already as wait for it.
	const all = 2*api.MaxLines + more
	for range all {
		q.Add(slog.NewRecord(time.Time{}, slog.LevelInfo, "request", 0))
	}
	close(log.release)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	written := strings.Count(log.String(), "msg=request\n")
	var lost int
	_, after, _ := strings.Cut(log.String(), "lines=")
	if _, err := fmt.Sscan(after, &lost); err != nil {
		t.Fatalf("the log does not say how many lines were lost: %v", err)
	}
	if lost < more || written+lost != all {
		t.Errorf("got %d lines, and %d are said to be lost, of %d", written, lost, all)
	}
}
