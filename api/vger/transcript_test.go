package vger_test

import (
	"net/url"
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
			c.set.Single = strings.Contains(t.Name(), "/g3-") || strings.Contains(t.Name(), "/g4-")
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
