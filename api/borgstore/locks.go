package borgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
)

// staleAfter is when borg calls a lock that was not refreshed dead. Source: borgstore-rest, 7.5.
const staleAfter = 30 * time.Minute

// maxLock is how much of a lock item is looked at, in bytes.
const maxLock = 4 << 10

// lockDocument is what borg writes into locks/<digest>.
type lockDocument struct {
	Exclusive bool   `json:"exclusive"`
	HostID    string `json:"hostid"`
	ProcessID uint64 `json:"processid"`
	Time      string `json:"time"`
}

// InspectLocks lists the locks of a borg repository that are wanted, and whether borg considers each one stale. An item that is not a lock
// document is listed too, with the time when it was stored.
func InspectLocks(ctx context.Context, a *repo.Access, w *api.LockWindow) ([]api.LockInfo, error) {
	var infos []api.LockInfo
	err := a.Each(ctx, index.ListOptions{Dir: "locks", Recursive: true}, func(entry index.Entry) error {
		if !w.Next() {
			return nil
		}
		text, err := readLock(ctx, a, entry.Key)
		if errors.Is(err, repo.ErrNotFound) {
			return nil // released meanwhile
		}
		if err != nil {
			return err
		}
		infos = append(infos, describeLock(entry, text, a.Repository().Now()))
		return nil
	})
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	return infos, err
}

// BreakLock removes a lock that InspectLocks listed. It is no error if the lock no longer exists.
func BreakLock(ctx context.Context, a *repo.Access, info api.LockInfo) error {
	if err := a.Delete(ctx, info.ID); err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	return nil
}

func readLock(ctx context.Context, a api.Opener, key string) ([]byte, error) {
	object, err := a.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	return io.ReadAll(io.NewSectionReader(object, 0, min(object.Size(), maxLock)))
}

// describeLock judges one lock item.
func describeLock(entry index.Entry, text []byte, now time.Time) api.LockInfo {
	info := api.LockInfo{
		Kind: api.LockObject, ID: entry.Key, Since: entry.Item.Created, Refreshed: entry.Item.Modified,
		Principal: entry.Item.Writer,
	}
	var document lockDocument
	if err := json.Unmarshal(text, &document); err != nil {
		info.Why = "not a lock document; its age is that of the item"
	} else {
		info.Host, info.Process, info.Exclusive = document.HostID, document.ProcessID, document.Exclusive
		if at, err := time.Parse(time.RFC3339Nano, document.Time); err == nil {
			info.Since, info.Refreshed = at, at
		}
	}
	age := now.Sub(info.Refreshed)
	info.Stale = age > staleAfter
	if info.Why == "" {
		word := "borg waits until"
		if info.Stale {
			word = "borg calls it dead after"
		}
		info.Why = fmt.Sprintf("not refreshed for %s; %s %s", age.Truncate(time.Second), word, staleAfter)
	}
	return info
}
