package restic_test

import (
	"os"
	"path/filepath"
	"testing"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/api/borgstore"
	"packhouse/api/restic"
	"packhouse/api/vger"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// TestTranscripts replays what restic sends for each command, as it was recorded between the programs and rest-server, and what it must get; what
// rustic sends; and section 2 of the contract (wire). The end-to-end tests replay them to rest-server.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	apitest.ReplayDir(t, "testdata", func(t *testing.T) *apitest.Fixture {
		t.Parallel()
		set := datadir.Open(datadir.Options{Dir: t.TempDir(), Settings: func(string) repo.Settings { return repo.Settings{Quota: -1} }})
		t.Cleanup(func() {
			if err := set.Close(); err != nil {
				t.Errorf("close repositories: %v", err)
			}
		})
		return apitest.Start(t, api.Options{Set: set, Dialects: []api.Dialect{
			borgstore.New(borgstore.Options{}), restic.New(restic.Options{}), vger.New(vger.Options{}),
		}})
	})
}

// TestTranscriptsOfAll: there is a transcript of each command that changes something, and of those that read in another way.
func TestTranscriptsOfAll(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"newest-init", "newest-backup", "newest-backup-again", "newest-restore", "newest-restore-no-lock", "newest-check", "newest-tag", "newest-rewrite",
		"newest-key-add", "newest-key-passwd", "newest-key-remove", "newest-forget", "newest-prune", "newest-unlock", "newest-repair-index",
		"newest-v1-migrate", "old-init", "old-backup", "old-restore", "old-check", "old-prune", "rustic", "wire",
	} {
		if _, err := os.Stat(filepath.Join("testdata", command+".txt")); err != nil {
			t.Error(err)
		}
	}
}
