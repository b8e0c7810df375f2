package vger

import (
	"maps"

	"packhouse/repo"
	"packhouse/repo/policy"
)

// appendOnly is the append-only mode of the newest generation as a table of permissions
// (contract, 3.4): everything may be created, only what must change may be overwritten,
// only locks and sessions may be deleted. Two rules need more than a table and are in the
// handlers: manifest may be overwritten in repositories of format 1 only, and a batch
// delete may name nothing but temporary names.
var appendOnly = map[string]string{
	"":          "lrw",
	"index":     "lrwW",
	"index.gen": "lrwW",
	"manifest":  "lrwW",
	"locks":     "lrwWD",
	"sessions":  "lrwWD",
}

// AppendOnly returns the append-only mode as a table for policy.New.
func AppendOnly() map[string]string { return maps.Clone(appendOnly) }

// restricted tells whether a principal may not delete what it stored: append-only, or less.
func restricted(p repo.Principal) bool { return !p.Permissions.Allows("snapshots/x", "D") }

// manifestOnce is what an append-only principal may do with the manifest of a repository that is
// not of format 1: such clients have no manifest, so a write can only do harm.
var manifestOnce = func() *policy.Permissions {
	p, err := policy.New(map[string]string{"manifest": "lrw"})
	if err != nil {
		panic(err) // the table is a constant
	}
	return p
}()
