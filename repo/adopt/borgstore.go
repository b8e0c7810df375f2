package adopt

import (
	"fmt"
	"path"
	"strings"
	"time"

	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

const layoutBorgStore = "borgstore"

// borgStore is the layout of BorgStore's file backend ("posixfs"): each item is a file, and its path is the name that the protocol
// knows, with the directories of nesting and the suffix ".del" of what borg has deleted. A file is written under another name that ends with
// ".tmp", is not synced, and is never changed after its rename. Source: borgstore-rest 3.1 to 3.3, 3.9.
type borgStore struct {
	borg bool // its items are those of BorgBackup 2
}

func (borgStore) names() (layout, dialect string) { return layoutBorgStore, "borgstore" }

func (b borgStore) file(name string) (use use, algorithm string, err error) {
	if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".hid") {
		return skipped, "", nil
	}
	if rule := keys.BorgStoreRule(name); rule != "" {
		rule, _, _ = strings.Cut(rule, ", but ") // what a client sent follows there
		return 0, "", fmt.Errorf("no name of BorgStore: %s", rule)
	}
	if err := keys.Check(name); err != nil {
		return 0, "", err
	}
	if dir, _, _ := strings.Cut(name, "/"); b.borg && (dir == "packs" || dir == "index") && keys.IsHex(path.Base(name), 64) {
		algorithm = digest.SHA256
	}
	return item, algorithm, nil
}

func (borgStore) backup(name string) bool {
	return strings.HasPrefix(name, "archives/") && !strings.HasSuffix(name, ".del")
}

// borgStale is the age at which borg takes a lock for one that was left behind.
const borgStale = 30 * time.Minute

func (borgStore) current(name string, age time.Duration) bool {
	return strings.HasPrefix(name, "locks/") && age < borgStale
}
