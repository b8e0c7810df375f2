package borgstore_test

import (
	"testing"

	"packhouse/api"
	"packhouse/api/apitest"
)

// TestTranscripts replays sections 2, 3 and 8 of the contract.
func TestTranscripts(t *testing.T) {
	special := map[string]options{
		"TestTranscripts/quota": {quota: 1000},
		"TestTranscripts/many":  {many: true},
		"TestTranscripts/root":  {many: true, root: "main"},
		"TestTranscripts/auth":  {auth: &api.AuthOptions{Users: []api.User{{Name: "u", Password: "p"}}, Tokens: []api.Token{{Name: "token", Secret: "secret-of-the-server"}}}},
	}
	apitest.ReplayDir(t, "testdata", func(t *testing.T) *apitest.Fixture { return start(t, special[t.Name()]) })
}
