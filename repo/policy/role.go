package policy

import (
	"slices"
	"strings"
)

// Role is what a principal is there for. It stands for a table of each dialect (Permissions).
type Role string

// The roles, from the least to the most.
const (
	WriteOnly Role = "write-only"
	Read      Role = "read"
	Backup    Role = "backup"
	Maintain  Role = "maintain"
	Admin     Role = "admin"
)

var purposes = map[Role]string{
	WriteOnly: "back up; read only what the client needs for that",
	Read:      "list, check and restore",
	Backup:    "back up and restore; delete or overwrite no backup",
	Maintain:  "backup, and also prune, compact and delete backups; not the repository",
	Admin:     "everything, also the administration of the repository",
}

// Roles returns all roles, from the least to the most.
func Roles() []Role { return []Role{WriteOnly, Read, Backup, Maintain, Admin} }

// ParseRole checks the name of a role.
func ParseRole(name string) (Role, error) {
	if _, ok := purposes[Role(name)]; ok {
		return Role(name), nil
	}
	all := make([]string, 0, len(purposes))
	for _, role := range Roles() {
		all = append(all, string(role))
	}
	return "", invalid("role %q: expected one of %s", name, strings.Join(all, ", "))
}

// Purpose says in one line what a role is for.
func (r Role) Purpose() string { return purposes[r] }

// Permissions is the role's table for the clients of a dialect, which is given by its name. Clients of a dialect without tables
// have those of borg's. What is no role grants nothing.
func (r Role) Permissions(dialect string) *Permissions {
	tables := borgRoles
	switch dialect {
	case "vger":
		tables = vgerRoles
	case "restic":
		tables = resticRoles
	}
	if p, ok := tables[r]; ok {
		return p
	}
	return nothing
}

// AppendOnly is what append_only leaves to the clients of a dialect: the role Backup.
func AppendOnly(dialect string) *Permissions { return Backup.Permissions(dialect) }

// Row is one row of a table.
type Row struct {
	Prefix  string `json:"prefix"` // "": all other keys
	Letters string `json:"letters"`
}

// Rows returns the rows of a table in the order of their prefixes; nil, which restricts nothing, is one that grants everything.
func (p *Permissions) Rows() []Row {
	table := everything
	if p != nil {
		table = p.letters
	}
	rows := make([]Row, 0, len(table))
	for prefix, letters := range table {
		rows = append(rows, Row{prefix, letters})
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Prefix, b.Prefix) })
	return rows
}
