package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"packhouse/api"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Removals are the repositories that were destroyed and can be restored.
type Removals interface {
	Removed() ([]datadir.Removed, error)
	RestoreRemoved(ctx context.Context, name, as string) (datadir.Removed, error)
	Vanished(there []string) []string
	Forget(name string) error
}

// NewRepository is the body of a request to create a repository.
type NewRepository struct {
	Name    string `json:"name"`
	Dialect string `json:"dialect"`
}

// createRepository makes an empty repository. It is durable when the answer is sent.
func (q *request) createRepository(string) error {
	var body NewRepository
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Repository = body.Name
	if err := q.authorized(nil, body.Name).MayEnter(); err != nil {
		return err
	}
	if known := q.h.o.Dialects; known != nil && !slices.Contains(known, body.Dialect) {
		return invalid("dialect is one of %s, not %q", strings.Join(known, ", "), body.Dialect)
	}
	r, err := q.h.o.Set.Create(q.Context(), body.Name, body.Dialect)
	if err != nil {
		return err
	}
	return q.reply(http.StatusCreated, describeRepository(body.Name, r, r.As(q.authorized(r, body.Name))))
}

// destroyRepository removes a repository. It can be restored within its grace time; without one it is gone for good, as when a client destroys it.
func (q *request) destroyRepository(string) error {
	if err := q.access.MayDestroy(q.Context()); err != nil {
		return err
	}
	if err := q.h.o.Set.Destroy(q.Context(), q.name); err != nil {
		return err
	}
	api.WriteText(q.w, q.Request, http.StatusNoContent, "")
	return nil
}

// forgetVanished has a repository that is missing be one that never was.
func (q *request) forgetVanished(string) error {
	if err := q.h.o.Removals.Forget(q.name); err != nil {
		return err
	}
	api.WriteText(q.w, q.Request, http.StatusNoContent, "")
	return nil
}

// listRemoved shows the repositories that were destroyed and can be restored.
func (q *request) listRemoved(string) error {
	if q.h.o.Removals == nil {
		return errNoPath
	}
	all, err := q.h.o.Removals.Removed()
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"removed": append([]datadir.Removed{}, all...)})
}

// RestoreRepository is the body of a request to restore a repository.
type RestoreRepository struct {
	Name string `json:"name"`         // that it had, or its ID
	As   string `json:"as,omitempty"` // the name that it gets; empty: the one that it had
}

// restoreRepository restores a repository that was destroyed.
func (q *request) restoreRepository(string) error {
	if q.h.o.Removals == nil {
		return errNoPath
	}
	var body RestoreRepository
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Repository = body.Name
	r, err := q.h.o.Removals.RestoreRemoved(q.Context(), body.Name, body.As)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, r)
}

// check checks the repository, and with "verify" reads every byte. Lines are sent as they come; the last one is that of the end, or says
// why there is none.
func (q *request) check(string) error {
	var body struct {
		Verify bool `json:"verify"`
	}
	if q.h.o.Check == nil {
		return errNoPath
	}
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Reads = true // what is marked as damaged is so already
	return q.lines(func(say func(any) error) error {
		flushed := func(v any) error {
			if err := say(v); err != nil {
				return err
			}
			_ = http.NewResponseController(q.w).Flush() // the next write finds that nobody reads
			return nil
		}
		err := q.h.o.Check(q.Context(), q.repo, body.Verify, flushed)
		if err != nil && q.Context().Err() == nil {
			_ = flushed(map[string]string{"broken": describe(err).Detail})
		}
		return err
	})
}

// salvage lets damaged items be served with their wrong bytes for so many seconds; 0 ends that.
func (q *request) salvage(string) error {
	var body struct {
		Seconds *int64 `json:"seconds"`
	}
	if err := q.document(&body); err != nil {
		return err
	}
	if body.Seconds == nil || *body.Seconds < 0 || *body.Seconds > int64(repo.MaxSalvage/time.Second) {
		return invalid("seconds is a number from 0 to %d", int64(repo.MaxSalvage/time.Second))
	}
	until, err := q.repo.Salvage(q.Context(), time.Duration(*body.Seconds)*time.Second)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, struct {
		Until time.Time `json:"until,omitzero"` // absent: they are not served
	}{until})
}

// acceptLoss marks items whose files are missing, however many they are.
func (q *request) acceptLoss(string) error {
	var body struct {
		Forget bool `json:"forget"`
		Dry    bool `json:"dry_run"`
	}
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Reads = body.Dry
	r, err := q.repo.AcceptLoss(q.Context(), body.Forget, body.Dry)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, r)
}
