package repo

import (
	"strings"

	"packhouse/index"
)

// snapshotKeys are the keys of the objects that stand for one backup each: borg calls them archives, the others snapshots.
type snapshotKeys struct {
	dir     string // a top-level directory
	deleted string // what the key of one ends in that its client can undelete; empty: there is no such thing
	// rewrites: to change what a snapshot says its client stores another one, and deletes the first, under the same lock.
	rewrites bool
}

// snapshotsOf are those of a dialect; the zero value: it is not known what its snapshots are.
//
// Sources: borgstore-rest 2.6 (soft deletion); vger-rest 2; restic-rest 1.1, 4.3.
func snapshotsOf(dialect string) snapshotKeys {
	switch dialect {
	case "borgstore":
		return snapshotKeys{dir: "archives", deleted: ".del", rewrites: true}
	case "vger":
		return snapshotKeys{dir: "snapshots"}
	case "restic":
		return snapshotKeys{dir: "snapshots", rewrites: true}
	}
	return snapshotKeys{}
}

// has tells whether key is that of a snapshot, or of one that can be undeleted.
func (s snapshotKeys) has(key string) bool {
	return s.dir != "" && len(key) > len(s.dir) && key[len(s.dir)] == '/' && strings.HasPrefix(key, s.dir)
}

// lists tells whether the client sees a snapshot under key.
func (s snapshotKeys) lists(key string) bool {
	return s.has(key) && (s.deleted == "" || !strings.HasSuffix(key, s.deleted))
}

// undeletes tells whether a rename from one key to another undeletes a snapshot. Any other but the reverse is no better than its removal: borg's
// archives are empty, and their keys all that says where a backup begins.
func (s snapshotKeys) undeletes(from, to string) bool {
	return s.deleted != "" && s.lists(to) && from == to+s.deleted
}

// IsSnapshot tells whether key is that of a snapshot: a client has completed a backup when it has stored one.
func (r *Repository) IsSnapshot(key string) bool { return r.snapshots.lists(key) }

// Snapshots is how many snapshots there are, with those that can be undeleted.
func (r *Repository) Snapshots() (int64, error) {
	if r.snapshots.dir == "" {
		return 0, nil
	}
	c, err := r.index.DirCounters(r.snapshots.dir)
	return c.Items, r.translate(err)
}

// arrived is when the bytes of a snapshot came, by the server's clock. They keep it when they are moved, but not when they are replaced.
func arrived(item *index.Item) int64 { return item.Modified.UnixMilli() }
