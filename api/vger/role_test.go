package vger_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"testing"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/api/vger/vykartest"
	"packhouse/repo/policy"
)

// TestRoles: what a client can do with each role.
func TestRoles(t *testing.T) {
	t.Parallel()
	const works, fails = true, false
	for _, format := range []int{1, 2} {
		for _, test := range []struct {
			role                                        policy.Role
			init, backup, list, restore, check, removes bool
		}{
			{policy.WriteOnly, works, works, works, fails, fails, fails},
			{policy.Read, fails, fails, works, works, works, fails},
			{policy.Backup, works, works, works, works, works, fails},
			{policy.Maintain, works, works, works, works, works, works},
			{policy.Admin, works, works, works, works, works, works},
		} {
			s := newServer(t, func(c *setup) {
				c.auth = api.AuthOptions{Tokens: []api.Token{
					{Name: "full", Secret: "full"}, {Name: "own", Secret: "own", Permissions: test.role.Permissions(vger.Name)},
				}}
			})
			pid := 0
			client := func(token, repository string) *vykartest.Client {
				pid++
				return vykartest.New(vykartest.Options{
					Base: s.base + "/" + repository, Transport: s.http.Transport, Header: http.Header{"Authorization": {"Bearer " + token}},
					Random: rand.New(rand.NewPCG(uint64(pid), 1)), Host: "host", BootID: "boot", PID: pid,
					Format: format, PackSize: 4 << 10, Retries: -1,
				})
			}
			want := func(what string, works bool, err error) {
				t.Helper()
				if (err == nil) != works {
					t.Errorf("format %d, %s: %s: got %v, want success %v", format, test.role, what, err, works)
				}
			}
			chunks, live := make([][]byte, 40), [][]byte{}
			for i := range chunks {
				chunks[i] = bytes.Repeat([]byte{byte(i)}, 1000)
				if i%2 == 0 {
					live = append(live, chunks[i])
				}
			}
			want("init of another", true, client("full", "r").Init())
			want("backup of another", true, client("full", "r").Backup("old", chunks...))
			want("backup of another", true, client("full", "r").Backup("kept", live...))

			want("init", test.init, client("own", "new").Init())
			want("backup", test.backup, client("own", "r").Backup("more", []byte("more")))
			_, err := client("own", "r").List()
			want("list", test.list, err)
			_, err = client("own", "r").Restore("old")
			want("restore", test.restore, err)
			want("check", test.check, client("own", "r").Check(vykartest.Everything))
			// A snapshot of format 1 is there as long as the manifest says so, which each backup replaces.
			_, err = client("own", "r").Delete("old")
			want("delete", test.removes || format == 1 && test.role == policy.Backup, err)
			if err != nil {
				_, err = client("full", "r").Delete("old")
				want("delete by another", true, err)
			}
			done, err := client("own", "r").Compact()
			want("compact", test.removes, err)
			if saved := done.Saved; saved != test.removes {
				t.Errorf("format %d, %s: the compaction saved its index: %v, want %v", format, test.role, saved, test.removes)
			}
			want("deletion of the repository", test.role == policy.Admin, client("own", "r").DeleteRepository())
		}
	}
}
