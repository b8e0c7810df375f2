package api

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// health is what anyone may ask. It names no repository, no path and no client. Source of
// protocol_version and hashes: vger-rest 7.5; clients from 0.20 refuse to init without them.
type health struct {
	Status        string `json:"status"` // "ok", or "degraded" when a repository takes no writes, has lost something or cannot be opened, or none is served
	Version       string `json:"version"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	DiskFreeBytes int64  `json:"disk_free_bytes"`
	// DiskFreeWithKept adds what repositories in use keep after compactions: that goes before anything is refused for
	// want of space.
	DiskFreeWithKept int64    `json:"disk_free_with_kept_bytes"`
	Repos            int      `json:"repos"`
	ProtocolVersion  int      `json:"protocol_version"`
	Hashes           []string `json:"hashes"`
	ReadOnlyRepos    int      `json:"read_only_repos"`
	UnusableRepos    int      `json:"unusable_repos"`  // could not be opened when last asked for
	DamagedIndexes   int      `json:"damaged_indexes"` // of repositories in use: found to be so, served as far as they can be
	MissingItems     int64    `json:"missing_items"`   // whose file is gone
	DamagedItems     int64    `json:"damaged_items"`   // whose bytes are wrong
	Detached         bool     `json:"detached"`        // the data directory is missing or not the one that was opened: every request is refused
	Reason           string   `json:"reason,omitempty"`
}

// healthFresh is how long the count of repositories is kept: counting looks at each directory.
const healthFresh = 10 * time.Second

// healthCache keeps what is dear to find out.
type healthCache struct {
	mu    sync.Mutex // held over one count
	at    time.Time
	repos int
}

// serveHealth answers for the server, also under the prefix of a repository, whether it exists or not. The status
// is 200 as long as the process runs.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	x := stateOf(r)
	x.dialect, x.log.Operation = nil, "health"
	h := health{
		Status: "ok", Version: s.o.Version, UptimeSeconds: int64(s.o.Now().Sub(s.started) / time.Second),
		Repos: s.countRepositories(), ProtocolVersion: 2, Hashes: []string{"blake2b", "blake3"},
	}
	if err := s.o.Set.Attached(); err != nil {
		h.Status, h.Detached, h.Repos = "degraded", true, 0
		h.Reason = "the data directory is missing or not the one that was opened: mount its volume again, and the server continues without a restart; its log says what it found"
	}
	opened := s.o.Set.Opened()
	for _, repository := range opened {
		state := repository.Health()
		h.MissingItems += state.Missing
		h.DamagedItems += state.Damaged
		if state.Degraded() {
			h.Status = "degraded"
			if state.ReadOnly && h.ReadOnlyRepos == 0 || h.Reason == "" {
				h.Reason = state.Reason
			}
		}
		if state.ReadOnly {
			h.ReadOnlyRepos++
		}
		if state.IndexDamaged {
			h.DamagedIndexes++
		}
	}
	if free, _, err := s.o.Set.Space(); err == nil {
		h.DiskFreeBytes, h.DiskFreeWithKept = free, free+keptBytes(opened)
	}
	if h.UnusableRepos = len(s.o.Set.Unusable()); h.UnusableRepos > 0 {
		h.Status = "degraded"
		if h.Reason == "" {
			h.Reason = "a repository cannot be opened: packhouse check says which, why, and what to do, and so does the server's log"
		}
	}
	text, err := json.Marshal(h)
	if err != nil {
		WriteText(w, r, http.StatusInternalServerError, InternalError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	WriteBytes(w, r, http.StatusOK, "application/json", text)
}

func (s *Server) countRepositories() int {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	now := s.o.Now()
	if s.health.at.IsZero() || now.Sub(s.health.at) >= healthFresh {
		names, err := s.o.Set.Names()
		if err != nil {
			return 0 // and the next to ask looks again
		}
		s.health.at, s.health.repos = now, len(names)
	}
	return s.health.repos
}
