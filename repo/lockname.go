package repo

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The name of a lock, as it stands in index.Plan.Lock, is
//
//	KEY since MS         an item below locks/, and when it was created, in Unix milliseconds
//	ttl ID since US      a TTL lock, and when it was taken, in Unix microseconds
//
// with at most 1000 characters of KEY or ID. A lock that is released and taken again has another name.
const (
	ttlLock   = "ttl "
	lockSince = " since "
)

func nameObjectLock(key string, created time.Time) string {
	return fmt.Sprintf("%.1000s%s%d", key, lockSince, created.UnixMilli())
}

func nameTTLLock(id string, acquired time.Time) string {
	return fmt.Sprintf("%s%.1000s%s%d", ttlLock, id, lockSince, acquired.UnixMicro())
}

// LockName takes the name of a lock apart (index.Plan.Lock): its key, or the ID of a TTL lock, and since when it was
// there. Both are zero where there was none.
func LockName(name string) (id string, since time.Time) {
	unix := time.UnixMilli
	if rest, ok := strings.CutPrefix(name, ttlLock); ok {
		name, unix = rest, time.UnixMicro
	}
	i := strings.LastIndex(name, lockSince)
	if i < 0 {
		return name, time.Time{}
	}
	n, err := strconv.ParseInt(name[i+len(lockSince):], 10, 64)
	if err != nil {
		return name, time.Time{}
	}
	return name[:i], unix(n)
}
