package policy

// packs are the directories of what backups consist of, in the dialects.
var packs = [...]string{"packs", "data"}

// AddsOnly tells whether p lets backups be added and none be removed or replaced: so do the roles Backup and WriteOnly, AppendOnly, and borg's presets
// no-delete and write-only. nil is everything. Of the directories of packs those count that p names; where it names none, all other keys.
func AddsOnly(p *Permissions) bool {
	if p == nil {
		return false
	}
	adds := func(dir string) bool { return p.Allows(dir+"/00/0", "w") && !p.Allows(dir+"/00/0", "WD") }
	named := false
	for _, dir := range packs {
		if _, ok := p.letters[dir]; ok {
			if !adds(dir) {
				return false
			}
			named = true
		}
	}
	return named || adds(packs[0])
}
