package vger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
)

// InspectLocks lists the TTL locks, lock objects and sessions of a repository, and whether each is stale by the clients' own rule.
// An object that cannot be decoded is listed too, with the time when it was stored.
func InspectLocks(ctx context.Context, a *repo.Access, w *api.LockWindow) ([]api.LockInfo, error) {
	var infos []api.LockInfo
	locks, err := a.Locks(ctx)
	if err != nil {
		return nil, err
	}
	for _, lock := range locks {
		if !w.Next() {
			continue
		}
		by := lockHolder(lock)
		infos = append(infos, api.LockInfo{
			Kind: api.LockTTL, ID: lock.ID, Host: by.Hostname, Process: by.PID, Exclusive: true,
			Since: lock.Since, Refreshed: lock.Acquired, Principal: by.Principal, Address: by.Address,
			Why: fmt.Sprintf("ends by itself %s after %s", lock.TTL, lock.Acquired.UTC().Format(time.RFC3339)),
		})
	}
	err = inspectObjects(ctx, a, []string{"locks", "sessions"}, w, func(info api.LockInfo, _ string) error {
		infos = append(infos, info)
		return nil
	})
	return infos, err
}

// inspectObjects calls fn for the ".json" objects of directories, with the reference of the bytes that say so.
// Journals (".index") are no holders.
func inspectObjects(ctx context.Context, a *repo.Access, dirs []string, w *api.LockWindow, fn func(info api.LockInfo, ref string) error) error {
	for _, dir := range dirs {
		if err := inspectDirectory(ctx, a, dir, w, fn); err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
	}
	return nil
}

func inspectDirectory(ctx context.Context, a *repo.Access, dir string, w *api.LockWindow, fn func(info api.LockInfo, ref string) error) error {
	describe := describeLock
	if dir == "sessions" {
		describe = describeSession
	}
	return a.Each(ctx, index.ListOptions{Dir: dir, Recursive: true}, func(entry index.Entry) error {
		if !strings.HasSuffix(entry.Key, ".json") || !w.Next() {
			return nil
		}
		text, item, err := readDocument(ctx, a, entry.Key)
		if errors.Is(err, repo.ErrNotFound) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		entry.Item = item
		return fn(describe(entry, text, a.Repository().Now()), item.Ref)
	})
}

func describeLock(entry index.Entry, text []byte, now time.Time) api.LockInfo {
	document, refreshed := lockRefreshed(entry.Key, text, entry.Item.Modified)
	info := api.LockInfo{
		Kind: api.LockObject, ID: entry.Key, Host: document.Hostname, Process: document.PID, Exclusive: true,
		Since: entry.Item.Created, Refreshed: refreshed, Principal: entry.Item.Writer,
	}
	if at, ok := lockKeyTime(entry.Key); ok {
		info.Since = at
	}
	return judge(info, now, LockStale)
}

func describeSession(entry index.Entry, text []byte, now time.Time) api.LockInfo {
	info := api.LockInfo{
		Kind: api.LockSession, ID: entry.Key, Since: entry.Item.Created, Refreshed: entry.Item.Modified,
		Principal: entry.Item.Writer,
	}
	var document sessionDocument
	if json.Unmarshal(text, &document) == nil {
		info.Host, info.Process = document.Hostname, document.PID
		if at, err := time.Parse(time.RFC3339Nano, document.RegisteredAt); err == nil {
			info.Since = at
		}
		if at, err := time.Parse(time.RFC3339Nano, document.LastRefresh); err == nil {
			info.Refreshed = at
		}
	}
	return judge(info, now, sessionStale)
}

// judge applies the clients' rule.
func judge(info api.LockInfo, now time.Time, limit time.Duration) api.LockInfo {
	age := now.Sub(info.Refreshed)
	info.Stale = age > limit
	verdict := "clients respect it until"
	if info.Stale {
		verdict = "clients call it stale after"
	}
	info.Why = fmt.Sprintf("not refreshed for %s; %s %s", age.Truncate(time.Second), verdict, limit)
	return info
}

// BreakLock removes a lock that InspectLocks listed. It is no error if it no longer exists.
func BreakLock(ctx context.Context, a *repo.Access, info api.LockInfo) error {
	var err error
	if info.Kind == api.LockTTL {
		err = a.ReleaseLock(ctx, info.ID, "")
	} else {
		err = a.Delete(ctx, info.ID)
	}
	if errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	return err
}

// RemoveStale removes lock objects and sessions that were not refreshed for ttl, but never one that is still valid by the
// clients' own rule, because then two clients could work at the same time. An object that is refreshed during the call
// stays. It is used only if the administrator has configured it. It returns what it removed.
func RemoveStale(ctx context.Context, a *repo.Access, ttl time.Duration) ([]api.LockInfo, error) {
	var removed []api.LockInfo
	now := a.Repository().Now()
	err := inspectObjects(ctx, a, []string{"locks", "sessions"}, nil, func(info api.LockInfo, ref string) error {
		if !info.Stale || now.Sub(info.Refreshed) <= ttl {
			return nil
		}
		_, err := a.Commit(ctx, repo.Batch{Deletes: []repo.BatchDelete{{Key: info.ID, Ref: ref}}})
		switch {
		case errors.Is(err, repo.ErrNotFound), errors.Is(err, repo.ErrConflict):
			return nil
		case err == nil:
			removed = append(removed, info)
		}
		return err
	})
	return removed, err
}
