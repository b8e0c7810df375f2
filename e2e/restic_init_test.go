//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestResticInitAtOnce: of clients that initialize one repository at once, with the same password, one succeeds, and the repository is that one's: with its
// key alone, and its config. The others say that it is initialized already. Each of them may delete.
func TestResticInitAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, program := range map[string]func(testing.TB) string{"newest": newestRestic, "old": oldRestic} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := program(t)
			for i, after := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
				repository := fmt.Sprint(name, i)
				clients := []*restic{newRestic(t, program, s.url(repository)), newRestic(t, program, s.url(repository)), newRestic(t, program, s.url(repository))}
				var running sync.WaitGroup
				var mu sync.Mutex
				var succeeded *restic
				for n, client := range clients {
					running.Go(func() {
						time.Sleep(time.Duration(n) * after)
						out, code := client.try("init")
						mu.Lock()
						defer mu.Unlock()
						switch {
						case code == 0 && succeeded == nil:
							succeeded = client
						case code == 0:
							t.Errorf("%s: two have succeeded", repository)
						case !strings.Contains(out, "already"):
							t.Errorf("%s: %s", repository, lastLines(out, 5))
						}
					})
				}
				running.Wait()
				if succeeded == nil {
					t.Fatalf("%s: none has succeeded", repository)
				}
				if keys, err := newResticHTTP(s, repository).list("keys"); err != nil || len(keys) != 1 {
					t.Errorf("%s: %d keys, %v, want one", repository, len(keys), err)
				}
				for _, client := range clients {
					client.run("snapshots")
				}
			}
		})
	}
}
