package api_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"packhouse/api"
)

// enterAll takes slots until none is to be had at once, and returns how many.
func enterAll(s *api.Slots, principal, repository string, large bool) (n int) {
	for s.Enter(context.Background(), principal, repository, large, time.Nanosecond) == nil {
		n++
	}
	return n
}

// Whoever takes all there is leaves slots to the next: another repository, another principal, a small request.
func TestSlotsAreShared(t *testing.T) {
	s := api.NewSlots(512)
	if n := enterAll(s, "token", "a", true); n != 256 {
		t.Errorf("one client holds %d of 512, want 256", n)
	}
	if n := enterAll(s, "token", "b", true); n < 64 {
		t.Errorf("the same principal in another repository gets %d", n)
	}
	if n := enterAll(s, "alice", "a", true); n < 16 {
		t.Errorf("another principal in the first repository gets %d", n)
	}
	// One principal that makes repositories cannot have all.
	s = api.NewSlots(512)
	total := 0
	for i := range 600 {
		total += enterAll(s, "mallory", "r"+itoa(i), true)
	}
	if total > 384 {
		t.Errorf("one principal holds %d of 512 in 600 repositories", total)
	}
	if n := enterAll(s, "alice", "home", false); n < 50 {
		t.Errorf("another principal gets %d", n)
	}
	// What large bodies leave is for small requests.
	s = api.NewSlots(512)
	for i := range 100 {
		enterAll(s, "p"+itoa(i), "r"+itoa(i), true)
	}
	large := s.Free()
	for i := range 100 {
		enterAll(s, "p"+itoa(i), "r"+itoa(i), false)
	}
	if large != 64 || s.Free() >= large {
		t.Errorf("large requests leave %d of 512, small ones %d", large, s.Free())
	}
}

// A slot that is given back goes to who has waited longest and may have it, and nothing is kept of those who have gone.
func TestSlotsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := api.NewSlots(4)
		if n := enterAll(s, "a", "r", false); n != 2 {
			t.Fatalf("got %d of 4", n)
		}
		if n := enterAll(s, "b", "r", false); n != 1 {
			t.Fatalf("the second got %d of the other 2", n)
		}
		got := make(chan string, 3)
		for _, who := range []string{"a", "b", "c"} {
			go func() {
				err := s.Enter(context.Background(), who, "r", false, time.Minute)
				if err != nil {
					who += " " + err.Error()
				}
				got <- who
			}()
			synctest.Wait()
		}
		if first := <-got; first != "c" { // at once: it holds none
			t.Errorf("%s was let in first, want c", first)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Enter(ctx, "d", "r", false, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("who left: got %v", err)
		}
		s.Leave("a", "r")
		s.Leave("a", "r")
		if first := <-got; first != "a" {
			t.Errorf("%s was let in next, want a", first)
		}
		if last := <-got; !strings.HasPrefix(last, "b") {
			t.Errorf("got %q", last)
		}
		s.Leave("a", "r")
		s.Leave("b", "r")
		s.Leave("c", "r")
		if s.Free() < 3 {
			t.Errorf("%d are free", s.Free())
		}
		if n := s.Owners(); n > 2 {
			t.Errorf("%d owners are kept", n)
		}
	})
}

// A body may pause for minutes, and come by a line of 64 KiB a second; one that holds its slot with a byte now and then is
// ended. So is a response that is read so.
func TestMinimumRate(t *testing.T) {
	var got chan error
	serve := func(w http.ResponseWriter, r *http.Request, _ api.Target) bool {
		if r.Method == "GET" {
			err := func() (err error) {
				defer func() {
					if recover() != nil {
						err = errors.New("cut")
					}
				}()
				return api.SendReader(w, r, 200, strings.NewReader(strings.Repeat("x", 64<<20)), 64<<20)
			}()
			got <- err
			return true
		}
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
		return false
	}
	const mib = 1 << 20
	send := func(t *testing.T, conn net.Conn, n int) error {
		_, err := conn.Write(make([]byte, n))
		return err
	}
	for name, test := range map[string]struct {
		size int
		send func(t *testing.T, conn net.Conn) error
		slow bool
	}{
		"64 KiB a second": {512 * mib, func(t *testing.T, conn net.Conn) error {
			for range 8192 {
				time.Sleep(time.Second)
				if err := send(t, conn, 64<<10); err != nil {
					return err
				}
			}
			return nil
		}, false},
		"pauses": {60 * mib, func(t *testing.T, conn net.Conn) error {
			for range 6 {
				if err := send(t, conn, 10*mib); err != nil {
					return err
				}
				time.Sleep(5 * time.Minute)
			}
			return nil
		}, false},
		"a byte now and then": {mib, func(t *testing.T, conn net.Conn) error {
			for range mib {
				if err := send(t, conn, 1); err != nil {
					return nil
				}
				time.Sleep(time.Minute)
			}
			return errors.New("all was taken")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, api.Limits{}, serve, func(t *testing.T, dial func() net.Conn) {
				got = make(chan error, 1)
				conn := dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: "+itoa(test.size)+"\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := test.send(t, conn); err != nil {
					t.Error(err)
				}
				if err := <-got; (err != nil) != test.slow || test.slow && !strings.Contains(err.Error(), "too slow") {
					t.Errorf("got %v after %v", err, time.Since(began))
				}
				if test.slow && time.Since(began) > 17*time.Minute { // six of them for an answer that is not read
					t.Errorf("it was ended after %v", time.Since(began))
				}
			})
		})
	}
	t.Run("a reader", func(t *testing.T) {
		inBubble(t, api.Limits{}, serve, func(t *testing.T, dial func() net.Conn) {
			got = make(chan error, 1)
			conn := dial()
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /r HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			began, reader := time.Now(), bufio.NewReaderSize(conn, 4096)
			for {
				if _, err := io.CopyN(io.Discard, reader, 4096); err != nil {
					break
				}
				time.Sleep(time.Second) // 4 KiB a second
			}
			if err := <-got; err == nil || time.Since(began) > 20*time.Minute {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
		})
	})
}
