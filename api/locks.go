package api

import (
	"strings"
	"time"

	"packhouse/internal/shell"
)

// Kinds of locks.
const (
	LockTTL     = "ttl"     // kept by this server, ends by its clock
	LockObject  = "lock"    // an item below locks/ that clients agree on
	LockSession = "session" // an item below sessions/: a V'Ger or vykar client at work
)

// LockInfo is one lock or session, for an administrator. What a client wrote in it is shown unchanged and may be wrong: host
// names, process numbers and times are the client's.
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
	// Who took it: the principal, and where that is known the address of its client. Empty: not known.
	Principal string `json:"principal,omitempty"`
	Address   string `json:"address,omitempty"`
	// What the server has seen of them. Only a server that has been running can tell.
	LastRequest *time.Time `json:"last_request,omitempty"` // absent: none since SeenSince
	LastChange  *time.Time `json:"last_change,omitempty"`  // the last that stored or removed something
	SeenSince   *time.Time `json:"seen_since,omitempty"`
	Silence     string     `json:"silence,omitempty"` // one line: for how long no request came
	Break       string     `json:"break,omitempty"`   // the command that breaks it
}

// LockWindow is the part of the locks of a repository that is wanted: those behind Skip, at most Limit, 0: all. There may be very many; what is
// not wanted is counted, and not read. nil wants all.
type LockWindow struct {
	Skip, Limit int
	Total       int // that were counted
}

// Next counts a lock, and tells whether it is wanted.
func (w *LockWindow) Next() bool {
	if w == nil {
		return true
	}
	n := w.Total
	w.Total++
	return w.Limit == 0 || n >= w.Skip && n < w.Skip+w.Limit
}

// LockList is the answer of the administration API.
type LockList struct {
	Locks []LockInfo `json:"locks"`
	Total int        `json:"total"` // also of those on other pages
}

// BreakCommand returns the command that breaks a lock of a repository ("" if there is only one), quoted for a shell. options are
// flags for the command.
func BreakCommand(repository, id string, options ...string) string {
	words := append([]string{"packhouse", "lock", "break"}, options...)
	if strings.HasPrefix(repository, "-") || repository == "" && strings.HasPrefix(id, "-") {
		words = append(words, "--")
	}
	if repository != "" {
		words = append(words, repository)
	}
	words = append(words, id)
	for i, word := range words {
		words[i] = shell.Word(word)
	}
	return strings.Join(words, " ")
}
