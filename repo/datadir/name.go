package datadir

import "packhouse/repo"

// CheckName returns an error unless name is valid for a repository on a server of many: 1 to 128 bytes of letters, digits, '.', '_'
// and '-', not beginning with '.' (those names are reserved for the server) and not "-" (the administration API). Source: vger-rest,
// 3.2.
func CheckName(name string) error {
	if name == "" || len(name) > 128 {
		return repo.Errorf(repo.ErrInvalid, "a repository name has 1 to 128 characters")
	}
	if name[0] == '.' || name == "-" {
		return repo.Errorf(repo.ErrInvalid, "a repository name does not begin with '.' and is not '-': %q", name)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return repo.Errorf(repo.ErrInvalid, "a repository name has only letters, digits, '.', '_' and '-': %q", name)
		}
	}
	return nil
}
