package policy

// aPack is a key of what backups consist of, in each dialect.
const aPack = "packs/00/0"

// AddsOnly tells whether p lets backups be added and none be removed or replaced: so do the roles Backup and WriteOnly, AppendOnly, and borg's presets
// no-delete and write-only. nil is everything.
func AddsOnly(p *Permissions) bool { return p != nil && p.Allows(aPack, "w") && !p.Allows(aPack, "WD") }
