package policy

// everything grants all letters on all keys, spelled out.
var everything = map[string]string{"": "lrwWD"}

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
