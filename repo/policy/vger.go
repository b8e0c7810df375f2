package policy

// vgerBackup is the append-only mode of the newest generation of V'Ger's clients: everything may be created, only
// what must change may be overwritten, only locks and sessions may be deleted.
// Source: vger-rest 3.4.
var vgerBackup = map[string]string{
	"":          "lrw",
	"index":     "lrwW",
	"index.gen": "lrwW",
	"manifest":  "lrwW",
	"locks":     "lrwWD",
	"sessions":  "lrwWD",
}

var vgerRoles = map[Role]*Permissions{
	Backup:    must(vgerBackup),
	WriteOnly: must(with(vgerBackup, map[string]string{"packs": "lw"})),
	Read:      must(map[string]string{"": "lr", "locks": "lrwWD", "sessions": "lrwWD"}),
	Maintain:  must(with(vgerBackup, map[string]string{"packs": "lrwD", "pending_index": All, "snapshots": "lrwD"})),
	Admin:     must(everything),
}

// Two rules of append-only mode are about a request and not about a key, so that no row can hold them. They are for whoever may
// not delete a snapshot, by whatever table.
const anySnapshot = "snapshots/x"

// AllowsBatchDelete tells whether items may be deleted many at once. In append-only mode they may not, not even locks,
// which may be deleted one by one.
// Source: vger-rest 3.4.
func (p *Permissions) AllowsBatchDelete() bool { return p.Allows(anySnapshot, "D") }

// AllowsReplacingFinal tells whether W on a key is enough to overwrite an item there that its clients store once at most. In
// append-only mode it is not: such a write can only do harm.
// Source: vger-rest 1.4, of the manifest in repositories of another format than 1.
func (p *Permissions) AllowsReplacingFinal() bool { return p.Allows(anySnapshot, "D") }
