package vger_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
)

// TestTranscripts replays what clients of each generation send for each command, and what they must get: G1 and
// G2 to a server of many repositories, the later ones to a single one at "/". They are written from the
// contract's sequences, not recorded from the programs.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	apitest.ReplayDir(t, "testdata", func(t *testing.T) *apitest.Fixture {
		t.Parallel()
		s := newServer(t, func(c *setup) {
			c.set.Single = !strings.Contains(t.Name(), "/g1-") && !strings.Contains(t.Name(), "/g2-")
			c.set.Now = func() time.Time { return time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC) }
			c.auth = api.AuthOptions{Tokens: []api.Token{{Name: "client", Secret: "some-secret-token"}}}
		})
		u, err := url.Parse(s.base)
		if err != nil {
			t.Fatal(err)
		}
		return &apitest.Fixture{Set: s.set, Addr: u.Host}
	})
}

// TestTranscriptsOfAll: there is a transcript of each command of each generation.
func TestTranscriptsOfAll(t *testing.T) {
	t.Parallel()
	for _, generation := range []string{"g1", "g2", "g2s", "g3", "g4"} {
		for _, command := range []string{
			"init", "backup", "list", "info", "restore", "snapshot-delete", "prune", "check", "compact", "break-lock", "delete",
		} {
			if _, err := os.Stat(filepath.Join("testdata", generation+"-"+command+".txt")); err != nil {
				t.Error(err)
			}
		}
	}
}
