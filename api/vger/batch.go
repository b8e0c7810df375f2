package vger

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"packhouse/repo"
)

// batchDelete answers POST ?batch-delete: all keys in one transaction, so that a failure deletes nothing. Names
// that are no keys are skipped, missing objects ignored.
func (x *request) batchDelete() error {
	x.log("batch-delete")
	keys, err := x.readKeys()
	if err != nil {
		return err
	}
	// Before the repository is looked for. Temporary names are none to be refused, as nothing is ever stored under them.
	i := slices.IndexFunc(keys, func(name string) bool { return !parseKey(name).temporary })
	x.t.Log.Keys = keys
	if i >= 0 && x.t.Principal.MayBatchDelete(keys[i]) != nil {
		return status(http.StatusForbidden, "append-only: cannot batch-delete non-temp key: %.200s", keys[i])
	}
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) {
		x.empty(http.StatusNoContent) // all of them are missing
		return nil
	}
	if err != nil {
		return err
	}
	items, err := deletable(a, keys)
	if err != nil {
		return err
	}
	x.t.Log.Keys = items
	if _, err := a.DeleteAll(x.r.Context(), items); err != nil {
		return err
	}
	if x.query["cleanup-dirs"] {
		// The items are gone: what is wrong with the directories is no reason to tell the client that they are not.
		if err := removeEmpty(context.WithoutCancel(x.r.Context()), a, items); err != nil {
			x.t.Log.Reason = "empty directories were not removed: " + err.Error()
		}
	}
	x.empty(http.StatusNoContent)
	return nil
}

// readKeys reads an array of strings. It counts to the end of a list that is too long, but keeps no more than the limit.
func (x *request) readKeys() ([]string, error) {
	s, err := x.planBody()
	if err != nil {
		return nil, err
	}
	var keys []string
	count := 0
	err = s.Array(func(int) error {
		name, err := s.String()
		if count++; count <= x.d.o.Limits.BatchKeys {
			keys = append(keys, name)
		}
		return err
	})
	if err == nil {
		err = s.End()
	}
	if err == nil && count > x.d.o.Limits.BatchKeys {
		err = badRequest("too many keys: %d (max %d)", count, x.d.o.Limits.BatchKeys)
	}
	return keys, planError("JSON", err)
}

// deletable returns the items among names, in their stored spelling.
func deletable(a *repo.Access, names []string) ([]string, error) {
	items := make([]string, 0, len(names))
	for _, name := range names {
		k := parseKey(name)
		if !k.item() {
			continue
		}
		// The one key that can be an item or a directory.
		if k.text == "pending_index" {
			entry, err := a.Repository().Entry(k.text)
			if err != nil && !errors.Is(err, repo.ErrNotFound) {
				return nil, err
			}
			if err != nil || entry.Dir {
				continue
			}
		}
		items = append(items, k.text)
	}
	return items, nil
}

// removeEmpty removes the directories above keys that have become empty, the deepest first; never the
// repository itself. Nobody sees them in this protocol: it is housekeeping.
func removeEmpty(ctx context.Context, a *repo.Access, keys []string) error {
	parents := make(map[string]bool)
	for _, key := range keys {
		for i := strings.LastIndexByte(key, '/'); i > 0; i = strings.LastIndexByte(key[:i], '/') {
			parents[key[:i]] = true
		}
	}
	sorted := make([]string, 0, len(parents))
	for dir := range parents {
		sorted = append(sorted, dir)
	}
	slices.SortFunc(sorted, func(a, b string) int {
		if d := strings.Count(b, "/") - strings.Count(a, "/"); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, dir := range sorted {
		err := a.RemoveDir(ctx, dir)
		if err != nil && !errors.Is(err, repo.ErrNotEmpty) && !errors.Is(err, repo.ErrNotFound) && !errors.Is(err, repo.ErrNotDir) {
			return err
		}
	}
	return nil
}
