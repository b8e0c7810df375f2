package logwriter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/internal/logwriter"
)

// sink is a reader of a log: it stalls while stalled is locked, and is gone when told to be.
type sink struct {
	stalled sync.Mutex
	mu      sync.Mutex
	text    strings.Builder
	err     error
}

func (s *sink) Write(p []byte) (int, error) {
	s.stalled.Lock()
	defer s.stalled.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.text.Write(p)
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func flush(t *testing.T, w *logwriter.Writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// Lines are written in order, also when the caller uses its buffer again.
func TestOrder(t *testing.T) {
	var s sink
	w := logwriter.New(&s, nil)
	buffer := make([]byte, 0, 100)
	want := ""
	for i := range 1000 {
		buffer = fmt.Appendf(buffer[:0], "line %d\n", i)
		want += string(buffer)
		if n, err := w.Write(buffer); n != len(buffer) || err != nil {
			t.Fatal(n, err)
		}
	}
	flush(t, w)
	if s.String() != want {
		t.Errorf("got %d bytes, want %d", len(s.String()), len(want))
	}
}

// A reader that stalls holds nobody up; what did not fit is counted, and the count is told when lines flow again.
func TestStall(t *testing.T) {
	var s sink
	told := make(chan int, 10)
	w := logwriter.New(&s, func(lines int) { told <- lines })
	s.stalled.Lock()
	line := []byte(strings.Repeat("x", 1023) + "\n")
	began := time.Now()
	for range 10_000 {
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("10,000 lines took %v", took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush of a stalled log: got %v", err)
	}
	s.stalled.Unlock()
	flush(t, w)
	written := strings.Count(s.String(), "\n")
	if lost := <-told; written != 4096 || lost != 10_000-4096 {
		t.Errorf("%d lines were written and %d were told to be lost, want 4096 and %d", written, lost, 10_000-4096)
	}
}

// A reader that is gone is no error to who logs; when it is back the number of lost lines is told, by a line of the log itself.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		var w *logwriter.Writer
		w = logwriter.New(&s, func(lines int) { fmt.Fprintf(w, "%d lost\n", lines) })
		s.fail(errors.New("broken pipe"))
		for range 3 {
			fmt.Fprintln(w, "a line")
			synctest.Wait()
		}
		s.fail(nil)
		fmt.Fprintln(w, "again")
		synctest.Wait()
		if got := s.String(); got != "again\n3 lost\n" {
			t.Errorf("got %q", got)
		}
	})
}
