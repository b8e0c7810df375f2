package policy

// AppendOnly is what append_only leaves to the clients of a dialect, which is given by its name: they add, replace what
// must change with each backup, and delete no backup. Clients of a dialect without a table have that of borg's.
func AppendOnly(dialect string) *Permissions {
	if dialect == "vger" {
		return vgerAppendOnly
	}
	return borgAppendOnly
}
