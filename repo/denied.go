package repo

import (
	"fmt"

	"packhouse/repo/policy"
)

// May tells whether any of letters is granted to the principal on key: a *DeniedError if not. Here a table of package policy
// becomes the error to which each dialect gives its status.
func (p Principal) May(key, letters string) error {
	if p.Permissions.Allows(key, letters) {
		return nil
	}
	return &DeniedError{Letters: letters, Key: key}
}

// MayEnter tells whether the principal has a right to anything in a repository: a *DeniedError if not. Who has none is not to
// learn whether there is such a repository, whose it is, nor how full.
func (p Principal) MayEnter() error {
	if p.Permissions.GrantNothing() {
		return &DeniedError{Letters: policy.All}
	}
	return nil
}

// MayBatchDelete tells whether the principal may delete items many at once: a *DeniedError about key, one of them, if not.
func (p Principal) MayBatchDelete(key string) error {
	if p.Permissions.AllowsBatchDelete() {
		return nil
	}
	return &DeniedError{Letters: "D", Key: key}
}

// mayReplace tells whether the request may overwrite an item at its key.
func (a *Access) mayReplace(req PutRequest) bool {
	return a.May(req.Key, "W") == nil && !req.Immutable && (!req.Final || a.p.Permissions.AllowsReplacingFinal())
}

// DeniedError is an ErrDenied: none of Letters is granted on Key.
type DeniedError struct {
	Letters string
	Key     string
	Exists  bool // the key holds an item, and overwriting it is what was denied
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("One of permissions '%s' required for '%s'", e.Letters, e.Key)
}
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }
