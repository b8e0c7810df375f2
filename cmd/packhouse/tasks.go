package main

import (
	"context"

	"packhouse/api/vger"
	"packhouse/compact/maintenance"
	"packhouse/repo"
)

// tasks is maintenance that only some dialects need.
func (sv *service) tasks() []maintenance.Task {
	return []maintenance.Task{{
		Name: "stale-locks", Schedule: "*/10 * * * *",
		Run: func(ctx context.Context, name string, r *repo.Repository) error {
			ttl := sv.current.Load().ObjectLockTTL
			if ttl <= 0 || r.Dialect() != "vger" {
				return nil
			}
			removed, err := vger.RemoveStale(ctx, r.As(repo.Principal{Name: "maintenance"}), ttl)
			for _, lock := range removed {
				sv.log.Warn("removed a stale lock", "repository", name, "lock", lock.ID, "host", lock.Host, "refreshed", lock.Refreshed)
			}
			return err
		},
	}}
}
