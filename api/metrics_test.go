package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

// TestRepositoryGauges: what the index knows of a repository, by repository and by writer.
func TestRepositoryGauges(t *testing.T) {
	clock := repotest.FixedClock(time.Unix(1_700_000_000, 0))
	set := datadir.Open(datadir.Options{
		Dir: t.TempDir(), Environment: repo.Environment{Now: clock.Now},
		Settings: func(string) repo.Settings { return repo.Settings{Quota: 1000, Grace: time.Hour} },
	})
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := set.Create(t.Context(), "laptop", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	for i, writer := range []string{"alice", "bob"} {
		clock.Advance(time.Hour)
		_, err := r.As(repo.Principal{Name: writer}).Put(context.Background(), repo.PutRequest{
			Key: fmt.Sprint("archives/", i), Body: strings.NewReader("0123456789"), Size: 10, Backup: true,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f := startEcho(t, api.Options{Set: set})
	_, text := get(t, f.Addr, "GET", "/metrics")
	for _, want := range []string{
		`packhouse_repository_created_seconds{repository="laptop"} 1.7e+09`,
		`packhouse_repository_last_backup_seconds{repository="laptop"} 1.7000072e+09`,
		`packhouse_repository_writer_last_backup_seconds{repository="laptop",writer="alice"} 1.7000036e+09`,
		`packhouse_repository_writer_last_backup_seconds{repository="laptop",writer="bob"} 1.7000072e+09`,
		`packhouse_repository_quota_bytes{repository="laptop"} 1000`,
		`packhouse_repository_quota_used_bytes{repository="laptop"} 20`,
		`packhouse_repository_snapshots{repository="laptop"} 2`,
		`packhouse_repository_checkpoint_failed{repository="laptop"} 0`,
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "packhouse_repository_log_pending_bytes{repository=\"laptop\"} 0\n") {
		t.Error("nothing is pending of changes that were just made")
	}
}
