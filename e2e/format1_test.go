//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"packhouse/api/vger/vykartest"
)

// hiding is a repository of V'Ger's format 1, whose client may only back up. There `manifest` lists the snapshots, and each backup
// replaces it.
type hiding struct{ *vault }

// backup makes a snapshot of a few chunks, of which some are its own.
func (h hiding) backup(name string) {
	h.t.Helper()
	chunks := [][]byte{noise(1, 5000), noise(2, 20000), []byte("of " + name)}
	if err := h.client(h.next).Backup(name, chunks...); err != nil {
		h.t.Fatalf("backup %s: %v", name, err)
	}
	h.want[name] = chunks
}

// put stores an object as the client may, and returns the status.
func (h hiding) put(key string, body []byte) int {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodPut, "http://"+h.s.addr+"/"+h.name+"/"+key, bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token)
	response, err := h.next.RoundTrip(r)
	if err != nil {
		h.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// refused tells whether a request was answered with 403.
func refused(err error) bool {
	var status *vykartest.StatusError
	return errors.As(err, &status) && status.Status == http.StatusForbidden
}

// TestHiddenSnapshots: a client of format 1 with the role backup hides snapshots, by the list of them and by the index. The objects
// stay, the versions of what it has replaced bring the snapshots back, and so does a rollback.
func TestHiddenSnapshots(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace", "7d")
	s.harmed = true
	run(t, nil, packhouse(), "repo", "create", "laptop", "--dialect", "vger", "-d", s.data)
	h := hiding{newVault(t, s, "laptop")}
	h.o.Format, h.token = 1, s.issued("laptop", "backup")
	if err := h.client(h.next).Init(); err != nil {
		t.Fatal(err)
	}
	h.backup("monday")
	h.backup("tuesday")
	h.whole(vykartest.Everything)
	hidden := func(names ...string) {
		t.Helper()
		if got, err := h.client(h.next).List(); err != nil || !slices.Equal(got, names) {
			t.Fatalf("the client sees %q, %v, want %q", got, err, names)
		}
	}

	// By a deletion: manifest and index are stored without the snapshot, before the deletion of the object is refused.
	to := moment()
	warnings, err := h.client(h.next).Delete("monday")
	if err != nil || len(warnings) != 1 || !refused(warnings[0]) {
		t.Errorf("deletion of a snapshot: %v, %v; want a 403 for its object", warnings, err)
	}
	hidden("tuesday")
	h.backup("wednesday") // by a client that noticed nothing: a rollback would take this backup away
	for _, key := range []string{"manifest", "index"} {
		out := run(t, nil, packhouse(), "repo", "history", "laptop", key, "--since", to, "-d", s.data)
		if n := strings.Count(out, "laptop-backup"); n < 2 {
			t.Errorf("history of %s: %d changes by the client, want those of a deletion and of a backup\n%s", key, n, out)
		}
	}
	delete(h.want, "wednesday")
	t.Logf("%s", s.rollBack(to))
	h.whole(vykartest.Everything)

	// The same, with nothing behind it: the last versions are those to restore.
	to = moment()
	if _, err := h.client(h.next).Delete("tuesday", "monday"); err != nil {
		t.Fatal(err)
	}
	hidden()
	for _, key := range []string{"manifest", "index"} {
		run(t, nil, packhouse(), "trash", "restore", "laptop", "--prefix", key, "--since", to, "--replace", "-d", s.data)
	}
	h.whole(vykartest.Everything)

	// By bytes of its own, again and again, beside fake backups.
	to = moment()
	for i := range 5 {
		for _, key := range []string{"manifest", "index"} {
			if got := h.put(key, noise(uint64(i), 500)); got != http.StatusNoContent {
				t.Errorf("overwrite %s: got %d, want 204", key, got)
			}
		}
	}
	if _, err := h.client(h.next).List(); err == nil {
		t.Fatal("the client does not notice the attack")
	}
	for _, key := range []string{"config", "keys/repokey", "snapshots/fake"} {
		first, second := h.put(key, []byte("first")), h.put(key, []byte("second"))
		if second != http.StatusForbidden || key == "config" && first != http.StatusForbidden {
			t.Errorf("overwrite %s: got %d and %d, want 403", key, first, second)
		}
	}
	fake := vykartest.Index{Chunks: make(map[vykartest.ID]vykartest.Place)}
	h.put("manifest", []byte(`{"nonce": "x", "snapshots": []}`))
	h.put("index", fake.Encode())
	hidden()
	if done, err := h.client(h.next).Compact(); !refused(err) {
		t.Errorf("compact: %+v, %v, want 403", done, err)
	}
	t.Logf("%s", s.rollBack(to))
	h.whole(vykartest.Everything)
	h.backup("thursday")
	h.whole(vykartest.Everything)
	run(t, nil, packhouse(), "check", "--verify", "-d", s.data)
}
