//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// hostile is text that is code where it is not escaped.
const hostile = `"><img src=x onerror=alert(1)>'<script>alert(2)</script>`

// seedDays is how many days of backups the repositories of seedUI have.
const seedDays = 60

// seedUI makes repositories that look used: backups on each of the last days, with the clock of that day; removed items, locks, and names that
// try to be code. A client has chosen one of the names: hostile, or for pictures another one. It returns the moment before the last removal.
func seedUI(t *testing.T, dir, chosen string) (before time.Time) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now().Add(-seedDays * 24 * time.Hour)
	set := datadir.Open(datadir.Options{
		Dir: dir, Environment: repo.Environment{Now: func() time.Time { return now }, Small: 128 << 10},
		Settings: func(string) repo.Settings { return repo.Settings{Quota: 64 << 20, Grace: 90 * 24 * time.Hour} },
	})
	defer func() {
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	ctx := t.Context()
	put := func(r *repo.Repository, who, key string, size int, backup bool) {
		t.Helper()
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		store(ctx, t, r, who, key, body, backup)
	}
	type seeded struct {
		name, dialect string
		writers       []string
		size          int
	}
	all := []seeded{
		{"alice/laptop", "borgstore", []string{"alice-laptop", "alice-desktop", chosen}, 60 << 10},
		{"databases", "borgstore", []string{"db1", "db2"}, 90 << 10},
		{"mail", "borgstore", []string{"mail"}, 30 << 10},
		{"photos", "borgstore", []string{"nas"}, 70 << 10},
		{"bob/phone", "restic", []string{"bob"}, 15 << 10},
	}
	repositories := make([]*repo.Repository, len(all))
	for i, s := range all {
		r, err := set.Create(ctx, s.name, s.dialect)
		if err != nil {
			t.Fatal(err)
		}
		repositories[i] = r
	}
	for d := range seedDays {
		now = time.Now().Add(-time.Duration(seedDays-1-d)*24*time.Hour - time.Hour)
		for i, s := range all {
			for w, who := range s.writers {
				if random.IntN(6) == 0 && d < seedDays-2 {
					continue
				}
				put(repositories[i], who, fmt.Sprintf("packs/%02d/%02d", d, w), s.size/2+random.IntN(s.size), false)
				put(repositories[i], who, fmt.Sprintf("archives/%02d%02d", d, w), 200, true)
			}
			if d > 20 && d%5 == 0 {
				for w, who := range s.writers {
					if err := repositories[i].As(repo.Principal{Name: who}).Delete(ctx, fmt.Sprintf("packs/%02d/%02d", d-18, w)); err != nil && d > seedDays {
						t.Fatal(err)
					}
				}
			}
			if err := repositories[i].RecordGrowth(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	now = time.Now().Add(-10 * time.Minute)
	laptop := repositories[0]
	store(ctx, t, laptop, "alice-laptop", "locks/"+fmt.Sprintf("%064x", 7), fmt.Appendf(nil, `{"exclusive":true,"hostid":%q,"processid":4711,"threadid":0,"time":%q}`,
		"laptop.example@123456", now.UTC().Format("2006-01-02T15:04:05.000-07:00")), false)
	store(ctx, t, laptop, chosen, "locks/"+fmt.Sprintf("%064x", 8), fmt.Appendf(nil, `{"exclusive":false,"hostid":%q,"processid":1,"threadid":0,"time":%q}`,
		chosen, now.Add(-2*time.Hour).UTC().Format("2006-01-02T15:04:05.000-07:00")), false)
	for _, key := range []string{"keep/" + chosen, "gone/important", "gone/" + chosen} {
		put(laptop, "alice-laptop", key, 1000, false)
	}
	now = time.Now().Add(-5 * time.Minute)
	before = now.Add(-time.Minute)
	for _, key := range []string{"gone/important", "gone/" + chosen} {
		if err := laptop.As(repo.Principal{Name: "alice-laptop"}).Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := set.Create(ctx, "new-and-empty", "borgstore"); err != nil {
		t.Fatal(err)
	}
	now = time.Now()
	return before
}

func store(ctx context.Context, t *testing.T, r *repo.Repository, who, key string, body []byte, backup bool) {
	t.Helper()
	_, err := r.As(repo.Principal{Name: who, Address: "192.0.2.7"}).Put(ctx, repo.PutRequest{Key: key, Body: bytes.NewReader(body), Size: int64(len(body)), Backup: backup})
	if err != nil {
		t.Fatalf("store %s: %v", key, err)
	}
}
