package repo_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Who fills a full repository with locks hits itself: others can still lock it, also with locks of no bytes.
func TestLocksOfOneDoNotStopOthers(t *testing.T) {
	for name, body := range map[string]string{"large": string(make([]byte, 60<<10)), "empty": ""} {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t, func(o *datadir.Options) {
				o.Settings = func(string) repo.Settings { return repo.Settings{Quota: 10} }
			})
			r := a.Repository()
			mustPut(t, a, "data", "0123456789")
			flooder, honest := r.As(repo.Principal{Name: "flooder"}), r.As(repo.Principal{Name: "honest"})
			stored := 0
			for ; stored < 9000; stored++ {
				if _, err := put(flooder, fmt.Sprintf("locks/%05d", stored), body+"x"); err != nil {
					if !errors.Is(err, repo.ErrQuota) {
						t.Fatal(err)
					}
					break
				}
			}
			if most := 9000; stored == most || stored < 60 {
				t.Errorf("the flooder has %d locks", stored)
			}
			for i := range 20 {
				if _, err := put(honest, fmt.Sprintf("locks/honest%d", i), "a lock"); err != nil {
					t.Fatalf("an honest lock beside %d: %v", stored, err)
				}
			}
			if err := flooder.Delete(ctx, "locks/00000"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond) // what is held is counted again
			if _, err := put(flooder, "locks/again", "x"); err != nil && name == "large" {
				t.Errorf("after a lock was released: %v", err)
			}
		})
	}
}
