package policy

// everything grants all letters on all keys, spelled out.
var everything = map[string]string{"": All}

// presets cover borg's former namespace data/ and its present ones packs/ and index/.
// Source: borgstore-rest 3.10, tables of borgstore and of BorgBackup 2.
var presets = map[string]map[string]string{
	"borgbackup-all": everything,
	"borgbackup-no-delete": {
		"": "lr", "archives": "lrw", "cache": "lrwWD", "config": "lrW", "data": "lrw", "index": "lrwWD",
		"keys": "lr", "locks": "lrwD", "packs": "lrw",
	},
	"borgbackup-write-only": {
		"": "l", "archives": "lw", "cache": "lrwWD", "config": "lrW", "data": "lw", "index": "lrwWD",
		"keys": "lr", "locks": "lrwD", "packs": "lw",
	},
	"borgbackup-read-only": {"": "lr", "locks": "lrwD"},
}

// borgAppendOnly is the append-only mode of BorgStore's clients: they add and replace what borg itself replaces, and
// delete nothing but locks, caches and superseded indexes.
// Source: our own; the preset borgbackup-no-delete with w on the root, config and keys too, so that borg can make a new repository.
var borgAppendOnly = must(map[string]string{
	"": "lrw", "archives": "lrw", "cache": "lrwWD", "config": "lrwW", "data": "lrw", "index": "lrwWD",
	"keys": "lrw", "locks": "lrwD", "packs": "lrw",
})
