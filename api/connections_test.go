package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"packhouse/api"
)

// keepAlive sends a request, and wants an answer on a connection that stays open.
func keepAlive(t *testing.T, conn net.Conn, authorization string, want int) {
	t.Helper()
	if err := tryRequest(conn, authorization, want); err != nil {
		t.Fatal(err)
	}
}

func tryRequest(conn net.Conn, authorization string, want int) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /r HTTP/1.1\r\nHost: x\r\nAuthorization: "+authorization+"\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		return &net.AddrError{Err: response.Status}
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// Connections that send nothing, or wrong credentials, give way to others at once, and those of clients that have logged in stay.
func TestStrangersGiveWay(t *testing.T) {
	f := startEcho(t, api.Options{
		Auth:   newAuth(t, api.AuthOptions{Tokens: []api.Token{{Name: "t", Secret: strings.Repeat("s", 32)}}}),
		Limits: api.Limits{Connections: 8, HeaderTime: time.Hour},
	})
	right := "Bearer " + strings.Repeat("s", 32)
	var known []net.Conn
	for range 4 {
		conn := f.Dial(t)
		keepAlive(t, conn, right, 200)
		known = append(known, conn)
	}
	for range 3 {
		f.Dial(t) // silent
	}
	wrong := f.Dial(t)
	keepAlive(t, wrong, "Bearer wrong", 401)
	began := time.Now()
	for range 6 {
		conn := f.Dial(t)
		keepAlive(t, conn, right, 200)
		conn.Close()
		f.Dial(t)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("6 clients beside silent connections took %v", took)
	}
	for i, conn := range known {
		if err := tryRequest(conn, right, 200); err != nil {
			t.Errorf("known connection %d: %v", i, err)
		}
	}
	if !strings.Contains(f.Log.String(), "all connections are in use; some gave way to new ones") {
		t.Errorf("the log does not say it: %s", f.Log.String())
	}
}

// One address has only so many strangers, also where there is space for more; proxies, which bring many clients, have as many
// as there is space for.
func TestStrangersOfAnAddress(t *testing.T) {
	for _, tt := range []struct {
		proxies string
		open    int
	}{{"none", 64}, {"127.0.0.1", 100}} {
		proxies, err := api.ParseProxies([]string{tt.proxies})
		if err != nil {
			t.Fatal(err)
		}
		f := startEcho(t, api.Options{Limits: api.Limits{Connections: 400, HeaderTime: time.Hour}, Proxies: &proxies})
		var all []net.Conn
		for range 100 {
			all = append(all, f.Dial(t))
		}
		open := 0
		for deadline := time.Now().Add(10 * time.Second); ; {
			if open = countOpen(all); open <= tt.open || time.Now().After(deadline) {
				break
			}
		}
		if open != tt.open {
			t.Errorf("trusted proxies %s: %d of 100 silent connections are open, want %d", tt.proxies, open, tt.open)
		}
	}
}

// countOpen counts the connections that the server has not closed.
func countOpen(all []net.Conn) (n int) {
	for _, conn := range all {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				n++
			}
		}
	}
	return n
}
