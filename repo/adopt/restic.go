package adopt

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

const layoutRestic = "restic"

// restic is the layout of rest-server, and of restic's own backend for directories: each object is a file by its type and name, those of data in 256
// directories by the first two digits of the name. Files are written under another name and not changed after their rename. Repositories may
// lie in each other: one of two parts in that of the first, and all in the one at the root. Source: restic-rest 1.1, 3.1, 3.6.
type restic struct{}

func (restic) names() (layout, dialect string) { return layoutRestic, "restic" }

// unfinishedRestic are the names of files that rest-server and restic have not finished.
var unfinishedRestic = regexp.MustCompile(`\.rest-server-temp[0-9]*$|-tmp-[0-9]*$`)

func (r restic) file(name string) (use use, algorithm string, err error) {
	use, algorithm, err = r.object(name)
	for below, folders := name, 0; err != nil && folders < 2; folders++ {
		folder, rest, inside := strings.Cut(below, "/")
		if !inside || keys.ResticReserved(folder) {
			break
		}
		if _, _, other := r.object(rest); other == nil {
			return skipped, "", nil // of a repository that lies in this one
		}
		below = rest
	}
	return use, algorithm, err
}

// object is file for a repository alone.
func (restic) object(name string) (use use, algorithm string, err error) {
	switch base := path.Base(name); {
	case unfinishedRestic.MatchString(base):
		return skipped, "", nil
	case name == ".htpasswd", name == "private_key", name == "public_key":
		return skipped, "", nil
	case name == "config":
		return item, "", nil
	}
	kind, rest, _ := strings.Cut(name, "/")
	if !keys.ResticType(kind) {
		return 0, "", errors.New("no name of restic")
	}
	id := rest
	if kind == "data" {
		dir, inDir, _ := strings.Cut(rest, "/")
		if id = inDir; !strings.HasPrefix(id, dir) || len(dir) != 2 {
			return 0, "", errors.New("a pack of restic lies in the directory of the first two digits of its name")
		}
	}
	if !keys.ResticID(id) {
		return 0, "", fmt.Errorf("no name of restic: objects are named by 64 digits")
	}
	return item, digest.SHA256, nil
}

func (restic) key(name string) string {
	if strings.HasPrefix(name, "data/") {
		return "data/" + path.Base(name)
	}
	return name
}

func (restic) path(key string) string {
	if id, ok := strings.CutPrefix(key, "data/"); ok && len(id) > 2 {
		return "data/" + id[:2] + "/" + id
	}
	return key
}

func (restic) directories() []string {
	dirs := []string{"data", "index", "keys", "locks", "snapshots"}
	for i := range 256 {
		dirs = append(dirs, fmt.Sprintf("data/%02x", i))
	}
	return dirs
}

func (restic) backup(name string) bool { return strings.HasPrefix(name, "snapshots/") }

// resticStale is the age at which restic takes a lock for one that was left behind.
const resticStale = 30 * time.Minute

func (restic) current(name string, age time.Duration) bool {
	return strings.HasPrefix(name, "locks/") && age < resticStale
}
