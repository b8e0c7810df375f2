package stdio

import (
	"strings"

	"packhouse/repo/datadir"
)

// Restriction lists the directories that a client may use, as paths in which ~ is expanded. The zero value permits all.
type Restriction struct {
	Paths        []string // what lies at or below these
	Repositories []string // these themselves
}

// Restricted reports whether only some directories are permitted.
func (r *Restriction) Restricted() bool { return len(r.Paths)+len(r.Repositories) > 0 }

// Allows reports whether a client may use dir, a path that datadir.ResolveDir has returned. It returns an error if a path of the
// restriction cannot be resolved.
func (r *Restriction) Allows(dir string) (bool, error) {
	for _, path := range r.Paths {
		root, err := resolveHome(path)
		if err != nil {
			return false, err
		}
		if dir == root || strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/") {
			return true, nil
		}
	}
	for _, path := range r.Repositories {
		root, err := resolveHome(path)
		if err != nil || dir == root {
			return err == nil, err
		}
	}
	return !r.Restricted(), nil
}

func resolveHome(path string) (string, error) {
	path, err := ExpandHome(path)
	if err != nil {
		return "", err
	}
	return datadir.ResolveDir(path)
}
