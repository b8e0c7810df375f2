//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// occupy opens n connections that send the head of an upload and a byte of its body, and keeps them.
func occupy(t *testing.T, s *server, repository string, n int, authenticated bool) {
	t.Helper()
	credentials := ""
	if authenticated {
		credentials = "Authorization: Bearer " + token + "\r\n"
	}
	for i := range n {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		head := fmt.Sprintf("POST /%s/packs/%04d HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.x.borgstore.rest.v1\r\n%sContent-Length: 8000000\r\n\r\nx", repository, i, credentials)
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOthersGoOn: beside a client that holds all the uploads that it can get, and strangers that hold all the connections that
// they can get, other clients work: small requests into another repository and a real backup.
func TestOthersGoOn(t *testing.T) {
	for _, trouble := range []struct {
		name string
		do   func(s *server)
	}{
		{"600 slow uploads", func(s *server) { occupy(t, s, "greedy", 600, true) }},
		{"2,000 strangers", func(s *server) {
			occupy(t, s, "greedy", 1000, false)
			for range 1000 {
				conn, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
			}
		}},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			s := startServer(t)
			greedy, honest := newStoreClient(s, "greedy", 1), newStoreClient(s, "honest", 4)
			for _, c := range []*storeClient{greedy, honest} {
				if err := c.create(); err != nil {
					t.Fatal(err)
				}
			}
			trouble.do(s)
			var mu sync.Mutex
			var times []time.Duration
			var wait sync.WaitGroup
			for i := range 4 {
				wait.Go(func() {
					for n := range 50 {
						began := time.Now()
						if err := honest.store(fmt.Sprintf("data/%d-%d", i, n), []byte("x")); err != nil {
							t.Error(err)
						}
						mu.Lock()
						times = append(times, time.Since(began))
						mu.Unlock()
					}
				})
			}
			wait.Wait()
			slices.Sort(times)
			t.Logf("p50 %v, slowest %v", times[len(times)/2], times[len(times)-1])
			if slowest := times[len(times)-1]; slowest > 15*time.Second {
				t.Errorf("one of %d small stores took %v", len(times), slowest)
			}
			b := newBorg(t, s.url("borg"))
			b.run("repo-create", "--encryption", "aes256-ocb")
			tr := newTree(t, 7, 20, 1<<20)
			b.run("create", "first", tr.dir)
			look(t, filepath.Join(b.extract(b.archives()[0]), tr.dir)).same(t, look(t, tr.dir))
		})
	}
}
