package bench

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Trouble is a number of clients that take from a server what others need. They run in a process of their own, so that what they cost is
// not in the latencies that an honest client of the same process would see.
type Trouble struct {
	Silent  int `json:"silent"`  // connections that never send anything
	Uploads int `json:"uploads"` // of 8 MiB, with one byte a second
	Readers int `json:"readers"` // of a large item, at some 16 KiB a second
	Logins  int `json:"logins"`  // wrong passwords, each of another name
}

// TroubleAt is where a Trouble goes.
type TroubleAt struct {
	Trouble
	Server    string `json:"server"`    // host:port of loopback
	Addresses int    `json:"addresses"` // of loopback, that the connections come from
}

// Connections is how many connections it has.
func (t Trouble) Connections() int { return t.Silent + t.Uploads + t.Readers + t.Logins }

// TroubleReport tells what the clients of a Trouble got.
type TroubleReport struct {
	Connected int64 `json:"connected"` // connections that were made, in all
	Closed    int64 `json:"closed"`    // by the server, or refused with an answer
	Tries     int64 `json:"tries"`     // wrong logins that were answered
	Refused   int64 `json:"refused"`   // of them without a look at the password (429)
	Read      int64 `json:"read"`      // bytes, by slow readers
}

// troublePause is the time until a connection that has ended is made again.
const troublePause = time.Second

// The account and repository of clients that are slow but have logged in.
const (
	greedy      = "greedy"
	greedyWord  = "a password of the greedy user"
	largeItem   = "packs/00/large"
	largeSize   = 32 << 20
	slowUpload  = 8 << 20
	slowRead    = 4 << 10 // bytes at a time
	readPause   = 250 * time.Millisecond
	loginPause  = 100 * time.Millisecond
	dialsAtOnce = 64
)

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// trouble is a Trouble under way.
type trouble struct {
	TroubleAt
	dials  chan struct{}  // a token per connection that is being made
	begun  sync.WaitGroup // until each client has done its first step
	report struct{ connected, closed, tries, refused, read atomic.Int64 }
}

// Run makes the trouble until ctx ends. ready is called when each client has begun.
func (t TroubleAt) Run(ctx context.Context, ready func()) TroubleReport {
	r := &trouble{TroubleAt: t, dials: make(chan struct{}, dialsAtOnce)}
	var all sync.WaitGroup
	number := 0
	for _, part := range []struct {
		n      int
		client func(ctx context.Context, number int, begun func())
	}{{t.Readers, r.read}, {t.Uploads, r.upload}, {t.Silent, r.beSilent}, {t.Logins, r.logIn}} {
		for range part.n {
			at := number
			number++
			r.begun.Add(1)
			all.Go(func() { part.client(ctx, at, sync.OnceFunc(r.begun.Done)) })
		}
	}
	all.Go(func() {
		r.begun.Wait()
		if ctx.Err() == nil {
			ready()
		}
	})
	all.Wait()
	x := &r.report
	return TroubleReport{x.connected.Load(), x.closed.Load(), x.tries.Load(), x.refused.Load(), x.read.Load()}
}

// dial connects from one of the addresses. The connection is closed when ctx ends.
func (t *trouble) dial(ctx context.Context, number int) (net.Conn, func(), error) {
	select {
	case t.dials <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	defer func() { <-t.dials }()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: t.from(number)}, Timeout: 10 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", t.Server)
	if err != nil {
		return nil, nil, err
	}
	t.report.connected.Add(1)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

// from is the address of a client: all of 127.0.0.0/8 is this machine.
func (t *trouble) from(number int) net.IP {
	n := number % max(t.Addresses, 1)
	return net.IPv4(127, 0, byte(1+n/250), byte(1+n%250))
}

// again connects and calls use, over and over. use returns when the server has ended the connection.
func (t *trouble) again(ctx context.Context, number int, begun func(), use func(conn net.Conn, begun func())) {
	defer begun()
	for ctx.Err() == nil {
		if conn, closeConn, err := t.dial(ctx, number); err == nil {
			use(conn, begun)
			closeConn()
			if ctx.Err() == nil {
				t.report.closed.Add(1)
			}
		}
		begun() // one that is refused has begun, too
		select {
		case <-ctx.Done():
		case <-time.After(troublePause):
		}
	}
}

func (t *trouble) beSilent(ctx context.Context, number int, begun func()) {
	t.again(ctx, number, begun, func(conn net.Conn, begun func()) {
		begun()
		_, _ = conn.Read(make([]byte, 1)) // returns when the server hangs up
	})
}

func (t *trouble) upload(ctx context.Context, number int, begun func()) {
	t.again(ctx, number, begun, func(conn net.Conn, begun func()) {
		_, err := fmt.Fprintf(conn, "POST /%s/packs/00/%04d HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.x.borgstore.rest.v1\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n",
			greedy, number, basicOf(greedy, greedyWord), slowUpload)
		for one := make([]byte, 1); err == nil; {
			if _, err = conn.Write([]byte("x")); err != nil {
				return
			}
			begun()
			if err = conn.SetReadDeadline(time.Now().Add(time.Second)); err == nil {
				_, err = conn.Read(one) // an answer means that it is refused
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			err = nil
		}
	})
}

func (t *trouble) read(ctx context.Context, number int, begun func()) {
	t.again(ctx, number, begun, func(conn net.Conn, begun func()) {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(slowRead) // else the kernel reads megabytes ahead
		}
		_, err := fmt.Fprintf(conn, "GET /%s/%s HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.x.borgstore.rest.v1\r\nAuthorization: %s\r\n\r\n",
			greedy, largeItem, basicOf(greedy, greedyWord))
		buffer := make([]byte, slowRead)
		for n := 0; err == nil; t.report.read.Add(int64(n)) {
			if n, err = conn.Read(buffer); err == nil {
				begun()
				time.Sleep(readPause)
			}
		}
	})
}

// logIn tries wrong passwords of names that nobody else tries, one at a time.
func (t *trouble) logIn(ctx context.Context, number int, begun func()) {
	defer begun()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, _, err := t.dial(ctx, number)
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	begun() // a try may wait for long
	for try := 0; ctx.Err() == nil; try++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%s/packs/", t.Server, greedy), nil)
		if err != nil {
			return
		}
		request.Header.Set("Authorization", basicOf(fmt.Sprintf("nobody-%d-%d", number, try), "wrong"))
		if response, err := client.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			t.report.tries.Add(1)
			if response.StatusCode == http.StatusTooManyRequests {
				t.report.refused.Add(1)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(loginPause):
		}
	}
}
