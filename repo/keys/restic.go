package keys

// ResticType tells whether a name is that of a type of objects of restic, all of which have names by their content, and are listed together.
// Source: restic-rest 1.1.
func ResticType(name string) bool {
	switch name {
	case "data", "index", "keys", "locks", "snapshots":
		return true
	}
	return false
}

// ResticReserved tells whether a segment of a path belongs to restic's protocol, and not to the name of a repository. Source: restic-rest 3.1.
func ResticReserved(segment string) bool { return segment == "config" || ResticType(segment) }

// ResticID tells whether s is the name of an object: its SHA-256, 64 lowercase hexadecimal digits.
func ResticID(s string) bool { return IsHex(s, 64) }
