package policy

// resticBackup is the append-only mode of rest-server: everything may be stored and nothing overwritten, only locks may be deleted. What has a
// name of its own can only be stored again with the same bytes, so that no client needs W.
// Source: restic-rest 3.4.
var resticBackup = map[string]string{"": "lrw", "locks": "lrwD"}

// The roles of restic's clients. A backup reads the indexes, the latest snapshot and the trees that it refers to, which lie among the data: a
// client that may not read data makes each backup as if it were the first, but makes it. Its client deletes a file whose
// upload has failed, and goes on if that is refused. Prune stores new indexes and packs and removes others.
var resticRoles = map[Role]*Permissions{
	Backup:    must(resticBackup),
	WriteOnly: must(with(resticBackup, map[string]string{"data": "lw"})),
	Read:      must(map[string]string{"": "lr", "locks": "lrwD"}),
	Maintain:  must(with(resticBackup, map[string]string{"data": "lrwD", "index": "lrwD", "snapshots": "lrwD"})),
	Admin:     must(everything),
}
