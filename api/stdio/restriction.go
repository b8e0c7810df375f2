package stdio

import (
	"strings"

	"packhouse/repo/datadir"
)

// Restriction names the directories that a client may have, as paths in which ~ is replaced. Without any it may have all.
type Restriction struct {
	Paths        []string // what lies at or below these
	Repositories []string // these themselves
}

// Restricted tells whether there is any.
func (r *Restriction) Restricted() bool { return len(r.Paths)+len(r.Repositories) > 0 }

// Allows tells whether a client may have dir, which datadir.ResolveDir has returned. An error: a path cannot be resolved.
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
