package repo

import (
	"context"
	"slices"
	"strings"

	"packhouse/index"
)

// commitKeys are the keys under which the clients of a dialect complete what they have begun: the index that says where the
// bytes of a compaction are now, and the locks, sessions and caches without which they do not get that far. Were one of
// them refused for lack of space, all that was done before it would be lost. So the reserve of the disk is for them, down to what
// deleting needs, and beyond the quota they are admitted as far as index.CommitBound says.
type commitKeys struct {
	class index.CommitClass
	small []string // those of class.Dirs of which only items up to maxExempt are commit keys; a prefix each, with its slash
	index string   // what a client stores after a plan: an item, or a top-level directory of items
}

// commitKeysOf returns those of a dialect; nil when it is not known what its clients store last.
//
// Exempt items are below locks and sessions whatever the dialect, so that both are in each class: see index.CommitClass.
// Sources: vger-rest 11.3; restic-rest 4.3 (prune), Q7; borg archiver/compact_cmd.py and cache.py.
func commitKeysOf(dialect string) *commitKeys {
	switch dialect {
	case "vger":
		return &commitKeys{
			class: index.CommitClass{Keys: []string{"index", "index.gen", "manifest"}, Dirs: []string{"locks", "sessions"}},
			small: []string{"locks/", "sessions/"},
			index: "index",
		}
	case "restic":
		return &commitKeys{
			class: index.CommitClass{Dirs: []string{"index", "locks", "sessions"}},
			small: []string{"sessions/"},
			index: "index",
		}
	case "borgstore":
		return &commitKeys{
			class: index.CommitClass{Keys: []string{"config/manifest"}, Dirs: []string{"index", "cache", "locks", "sessions"}},
			small: []string{"sessions/"},
			index: "index",
		}
	}
	return nil
}

// has tells whether an item of so many bytes is a commit key's; negative: not known yet.
func (c *commitKeys) has(key string, size int64) bool {
	if c == nil || !c.class.Has(key) {
		return false
	}
	return size <= maxExempt || !slices.ContainsFunc(c.small, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// counts is how many of the bytes that count of an item at key are among those of the class: all or none.
func (c *commitKeys) counts(key string, counted int64) int64 {
	if c == nil || !c.class.Has(key) {
		return 0
	}
	return counted
}

// of returns the class for a mutation; nil when there is none.
func (c *commitKeys) of() *index.CommitClass {
	if c == nil {
		return nil
	}
	return &c.class
}

// isIndex tells whether key is what a client stores after a plan.
func (c *commitKeys) isIndex(key string) bool {
	if c == nil {
		return false
	}
	top, _, below := strings.Cut(key, "/")
	return top == c.index && below == slices.Contains(c.class.Dirs, c.index)
}

// CommitKey reports whether the item at key is one of those that may be stored beyond the quota. A plan that deletes such an item
// frees no space for others.
func (r *Repository) CommitKey(key string) bool { return r.commit != nil && r.commit.class.Has(key) }

// indexAfter tells how much the index of the client holds, and how much it may need when it is stored after a plan: a quarter
// more and 1 MiB, beside what it holds until then. Zeros where no client stores one.
func (r *Repository) indexAfter() (stored, needs int64, err error) {
	c := r.commit
	switch {
	case c == nil:
		return 0, 0, nil
	case slices.Contains(c.class.Dirs, c.index):
		counters, err := r.index.DirCounters(c.index)
		if err != nil {
			return 0, 0, r.translate(err)
		}
		stored = counters.Bytes
	default:
		if entry, err := r.index.Get(c.index); err == nil && !entry.Dir {
			stored = entry.Item.Size
		}
	}
	return stored, stored + stored/4 + 1<<20, nil
}

// markCommit remembers what commit keys hold now as stored within the limit, if it is.
func (r *Repository) markCommit(limit int64) error {
	_, err := r.apply(context.Background(), index.MarkCommit{Class: r.commit.class, Limit: limit})
	return err
}

// commitBound is how many bytes the items of commit keys may hold beyond the limit.
func (r *Repository) commitBound() (int64, error) {
	_, mark, err := r.index.CommitTotal(r.commit.class)
	if err != nil {
		return 0, r.translate(err)
	}
	return index.CommitBound(mark), nil
}
