package keys

import "strings"

// MaxCoordination is how many bytes a coordination object may have to be stored beyond the quota.
const MaxCoordination = 64 << 10

// Coordination tells whether key is one of the objects by which clients agree on who works: locks and sessions. Those that are small are
// exempt from quota, and they are removed without grace. Borg, V'Ger and vykar keep them under these names.
func Coordination(key string) bool {
	dir, name, _ := strings.Cut(key, "/")
	return name != "" && (dir == "locks" || dir == "sessions")
}
