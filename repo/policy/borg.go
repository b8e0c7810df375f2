package policy

import "maps"

// everything grants all letters on all keys, spelled out.
var everything = map[string]string{"": All}

// The tables of borg cover its former namespace data/ and its present ones packs/ and index/.
// Source: borgstore-rest 3.10, tables of borgstore and of BorgBackup 2.
var (
	borgNoDelete = map[string]string{
		"": "lr", "archives": "lrw", "cache": "lrwWD", "config": "lrW", "data": "lrw", "index": "lrwWD",
		"keys": "lr", "locks": "lrwD", "packs": "lrw",
	}
	borgWriteOnly = map[string]string{
		"": "l", "archives": "lw", "cache": "lrwWD", "config": "lrW", "data": "lw", "index": "lrwWD",
		"keys": "lr", "locks": "lrwD", "packs": "lw",
	}
	borgReadOnly = map[string]string{"": "lr", "locks": "lrwD"}
)

// presets are borg's own names of tables.
var presets = map[string]map[string]string{
	"borgbackup-all":        everything,
	"borgbackup-no-delete":  borgNoDelete,
	"borgbackup-write-only": borgWriteOnly,
	"borgbackup-read-only":  borgReadOnly,
}

// The roles of BorgStore's clients are borg's presets, and what borg needs beyond them: w on the root, config and keys, to make a
// new repository in an empty one.
//
// A compaction stores packs by defrag, which wants W, and removes others. Whoever may delete a pack may also store another in its
// place, so W on packs takes no protection away.
var borgRoles = map[Role]*Permissions{
	Backup:    must(with(borgNoDelete, map[string]string{"": "lrw", "config": "lrwW", "keys": "lrw"})),
	WriteOnly: must(with(borgWriteOnly, map[string]string{"": "lw", "config": "lrwW", "keys": "lrw"})),
	Read:      must(borgReadOnly),
	Maintain: must(with(borgNoDelete, map[string]string{
		"": "lrw", "config": "lrwW", "keys": "lrw", "archives": "lrwD", "data": All, "packs": All,
	})),
	Admin: must(everything),
}

// with is a table with other rows for some prefixes.
func with(table, rows map[string]string) map[string]string {
	all := maps.Clone(table)
	maps.Copy(all, rows)
	return all
}
