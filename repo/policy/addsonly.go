package policy

// packs are keys of what backups consist of, one in each dialect.
var packs = [...]string{"packs/00/0", "data/0"}

// AddsOnly tells whether p lets backups be added and none be removed or replaced: so do the roles Backup and WriteOnly, AppendOnly, and borg's presets
// no-delete and write-only. nil is everything.
func AddsOnly(p *Permissions) bool {
	if p == nil {
		return false
	}
	for _, key := range packs {
		if !p.Allows(key, "w") || p.Allows(key, "WD") {
			return false
		}
	}
	return true
}
