package vger

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Times after which clients consider a lock or a session dead if it was not refreshed (protocol description, 8.3 and 8.4). Whether
// its process is alive can only be checked on its own host.
const (
	LockStale    = 6 * time.Hour
	sessionStale = 45 * time.Minute
)

// maxDocument is how much of a lock or session object is looked at, in bytes.
const maxDocument = 4 << 10

// lockDocument is the content of locks/{20 digits}-{32 hex}.json.
type lockDocument struct {
	Hostname string  `json:"hostname"`
	PID      uint64  `json:"pid"`
	Time     string  `json:"time"`
	BootID   *string `json:"boot_id"`
}

// sessionDocument is the content of sessions/{32 hex}.json.
type sessionDocument struct {
	Hostname     string `json:"hostname"`
	PID          uint64 `json:"pid"`
	RegisteredAt string `json:"registered_at"`
	LastRefresh  string `json:"last_refresh"`
}

// lockKey is the key of a lock object: the smallest key holds the lock.
func lockKey(at time.Time, random string) string {
	return fmt.Sprintf("locks/%020d-%s.json", max(at.UnixMicro(), 0), random)
}

// lockKeyTime is the time in a lock object's key.
func lockKeyTime(key string) (time.Time, bool) {
	name := strings.TrimPrefix(key, "locks/")
	if len(name) < 21 || name[20] != '-' {
		return time.Time{}, false
	}
	us, err := strconv.ParseInt(name[:20], 10, 64)
	return time.UnixMicro(us), err == nil && name[0] != '-' && name[0] != '+'
}

// lockRefreshed is a lock's last sign of life by the clients' rule: the document's time, else
// the key's; failing both, when it was stored.
func lockRefreshed(key string, text []byte, stored time.Time) (lockDocument, time.Time) {
	var document lockDocument
	if json.Unmarshal(text, &document) == nil {
		if at, err := time.Parse(time.RFC3339Nano, document.Time); err == nil {
			return document, at
		}
	}
	if at, ok := lockKeyTime(key); ok {
		return document, at
	}
	return document, stored
}
