package api

import "time"

// Kinds of what clients hold.
const (
	LockTTL     = "ttl"     // kept by this server, ends by its clock
	LockObject  = "lock"    // an item below locks/ that clients agree on
	LockSession = "session" // an item below sessions/: a V'Ger or vykar client at work
)

// LockInfo is one lock or session for an administrator to look at. What a client wrote in it is
// shown as it is, and may be wrong: clients' clocks, names and process numbers are their own.
type LockInfo struct {
	Kind      string    `json:"kind"`
	ID        string    `json:"id"` // the TTL lock's name, or the item's key
	Host      string    `json:"host,omitempty"`
	Process   uint64    `json:"process,omitempty"`
	Exclusive bool      `json:"exclusive"`
	Since     time.Time `json:"since"`
	Refreshed time.Time `json:"refreshed"` // last sign of life; what staleness is counted from
	Stale     bool      `json:"stale"`     // by the client's own rule, as far as it can be judged from here
	Why       string    `json:"why"`       // one line: what makes it stale, or what keeps it
}
