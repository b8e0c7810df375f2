package vger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"packhouse/index"
	"packhouse/repo"
)

// The TTL lock API of the first generations (contract, 8.1). Beyond the reference: locks are
// durable, and a repeated acquire by the same holder succeeds and renews, as the first answer may have been lost.

const (
	maxLockBody = 64 << 10 // bytes of an acquire request
	maxHostname = 1 << 10  // bytes
)

// holder identifies the client that acquires a TTL lock, as it is stored with the lock: what the client says of itself, its principal and
// its address. Locks of earlier versions do not have the latter two.
type holder struct {
	Hostname  string `json:"hostname"`
	PID       uint64 `json:"pid"`
	Principal string `json:"principal,omitempty"`
	Address   string `json:"address,omitempty"`
}

// id tells holders apart: the digits end at the first '@'.
func (h holder) id() string { return fmt.Sprintf("%d@%s", h.PID, h.Hostname) }

// parseHolder reads the body of an acquire request. Malformed JSON is 400, a missing or wrong member 422.
func parseHolder(body []byte) (holder, error) {
	var fields struct {
		Hostname *string `json:"hostname"`
		PID      uint64  `json:"pid"`
	}
	err := json.Unmarshal(body, &fields)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return holder{}, badRequest("invalid JSON: %v", err)
	case err != nil:
		return holder{}, status(http.StatusUnprocessableEntity, "invalid lock request: hostname is a string, pid an unsigned integer")
	case fields.Hostname == nil:
		return holder{}, status(http.StatusUnprocessableEntity, "invalid lock request: missing field hostname")
	case len(*fields.Hostname) > maxHostname:
		return holder{}, status(http.StatusUnprocessableEntity, "invalid lock request: hostname is longer than %d bytes", maxHostname)
	}
	return holder{Hostname: *fields.Hostname, PID: fields.PID}, nil
}

// isJSON tells whether a Content-Type is a JSON media type.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	kind, subtype, _ := strings.Cut(media, "/")
	return kind == "application" && (subtype == "json" || strings.HasSuffix(subtype, "+json"))
}

// ttlLock tells whether the key can be the path of a TTL lock, and its id. Lock objects
// of every generation end in ".json".
func (x *request) ttlLock() (id string, ok bool) {
	id, ok = x.key.within("locks")
	return id, ok && x.key.item() && !strings.HasSuffix(id, ".json")
}

// acquire answers POST locks/{id}.
func (x *request) acquire() error {
	x.log("lock")
	if !x.key.item() {
		return errPath
	}
	id, ok := x.ttlLock()
	if !ok {
		return badRequest("the id of a lock does not end in .json")
	}
	if !isJSON(x.r.Header.Get("Content-Type")) {
		return status(http.StatusUnsupportedMediaType, "Expected request with `Content-Type: application/json`")
	}
	body, err := io.ReadAll(io.LimitReader(x.body, maxLockBody+1))
	if err != nil {
		return repo.ErrIncomplete
	}
	if len(body) > maxLockBody {
		return errBody
	}
	by, err := parseHolder(body)
	if err != nil {
		return err
	}
	a, err := x.accessOrCreate(x.key.text)
	if err != nil {
		return err
	}
	by.Principal, by.Address = x.t.Principal.Name, x.t.Principal.Address
	data, err := json.Marshal(by)
	if err != nil {
		return fmt.Errorf("encode a lock's holder: %w", err)
	}
	// A lock that was taken must be looked at before it is given out, also for a client that went away.
	ctx := context.WithoutCancel(x.r.Context())
	take := func() (index.Lock, error) {
		lock, err := a.AcquireLock(ctx, id, by.id(), data, x.d.o.LockTTL(x.t.Name))
		if errors.Is(err, repo.ErrLocked) {
			err = alreadyHeld(id, lockHolder(lock).Hostname)
		}
		return lock, err
	}
	if id == bridgedLock {
		err = x.acquireBridged(ctx, a, by, take)
	} else {
		_, err = take()
	}
	if err != nil {
		return err
	}
	x.empty(http.StatusCreated)
	return nil
}

func alreadyHeld(id, hostname string) error {
	return status(http.StatusConflict, "lock '%s' already held by %s", id, hostname)
}

// lockHolder is what acquire stored with a lock.
func lockHolder(lock index.Lock) holder {
	var h holder
	if err := json.Unmarshal(lock.Data, &h); err != nil {
		return holder{Hostname: lock.Holder}
	}
	return h
}

// release frees the TTL lock of the request's path, if it is one; released is false when there is none.
// There is no owner to check: the request names only the lock.
func (x *request) release(a *repo.Access) (released bool, err error) {
	id, ok := x.ttlLock()
	if !ok {
		shadow, found, err := x.shadow(a)
		if !found || err != nil {
			return false, err
		}
		id = shadow.lock.ID
	}
	err = a.ReleaseLock(x.r.Context(), id, "")
	if errors.Is(err, repo.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// serveLockList answers for exactly "locks", without a slash: the TTL locks.
func (x *request) serveLockList() error {
	x.log("locks")
	if !x.reads() {
		return x.notAllowed("GET, HEAD")
	}
	type shown struct {
		ID         string `json:"id"`
		Hostname   string `json:"hostname"`
		PID        uint64 `json:"pid"`
		AcquiredAt string `json:"acquired_at"`
		TTLSeconds int64  `json:"ttl_seconds"`
	}
	list := []shown{}
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) {
		return x.json(list)
	}
	if err != nil {
		return err
	}
	locks, err := a.Locks(x.r.Context())
	if err != nil {
		return err
	}
	for _, lock := range locks {
		by := lockHolder(lock)
		list = append(list, shown{
			lock.ID, by.Hostname, by.PID, lock.Acquired.UTC().Format(time.RFC3339Nano), int64(lock.TTL / time.Second),
		})
	}
	return x.json(list)
}
