package restic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
)

// staleAfter is when a client calls a lock dead that was not written anew, which it is every 5 minutes. Source: restic-rest 4.7.
const staleAfter = 30 * time.Minute

// InspectLocks lists the locks of a repository. Who holds one is encrypted, also whether it is exclusive; which principal stored it is known.
func InspectLocks(ctx context.Context, a *repo.Access, w *api.LockWindow) ([]api.LockInfo, error) {
	var infos []api.LockInfo
	now := a.Repository().Now()
	err := a.Each(ctx, index.ListOptions{Dir: "locks"}, func(entry index.Entry) error {
		if !w.Next() {
			return nil
		}
		info := api.LockInfo{
			Kind: api.LockObject, ID: entry.Key, Since: entry.Item.Created, Refreshed: entry.Item.Modified, Principal: entry.Item.Writer,
		}
		age := now.Sub(info.Refreshed)
		info.Stale = age > staleAfter
		word := "restic waits until"
		if info.Stale {
			word = "restic unlock removes it after"
		}
		info.Why = fmt.Sprintf("stored %s ago; %s %s; its holder is encrypted", age.Truncate(time.Second), word, staleAfter)
		infos = append(infos, info)
		return nil
	})
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	return infos, err
}
