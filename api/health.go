package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// health is what anyone may ask. It names no repository, no path and no client. Source of
// protocol_version and hashes: vger-rest 7.5; clients from 0.20 refuse to init without them.
type health struct {
	Status         string `json:"status"` // "ok", or "degraded" when a repository takes no writes, the disk has no space for them, it has lost something, cannot be opened or is missing, or none is served
	Version        string `json:"version"`
	UptimeSeconds  int64  `json:"uptime_seconds"`
	DiskFreeBytes  int64  `json:"disk_free_bytes"`
	DiskTotalBytes int64  `json:"disk_total_bytes"`
	// DiskFreeWithKept adds what repositories in use keep after compactions: that goes before anything is refused for
	// want of space.
	DiskFreeWithKept int64    `json:"disk_free_with_kept_bytes"`
	DiskFreeInodes   *int64   `json:"disk_free_inodes"` // null: the file system has no number of them
	Repos            int      `json:"repos"`
	AdoptingRepos    int      `json:"adopting_repos"` // of these: not complete yet
	MissingRepos     int      `json:"missing_repos"`  // that were here, and nobody has destroyed
	ProtocolVersion  int      `json:"protocol_version"`
	Hashes           []string `json:"hashes"`
	ReadOnlyRepos    int      `json:"read_only_repos"`
	UnusableRepos    int      `json:"unusable_repos"`  // could not be opened when last asked for
	SilentRepos      int      `json:"silent_repos"`    // of those in use: their disk does not answer
	DamagedIndexes   int      `json:"damaged_indexes"` // of repositories in use: found to be so, served as far as they can be
	MissingItems     int64    `json:"missing_items"`   // whose file is gone
	DamagedItems     int64    `json:"damaged_items"`   // whose bytes are wrong
	Detached         bool     `json:"detached"`        // the data directory is missing or not the one that was opened: every request is refused
	Short            []string `json:"short"`           // for what clients were refused within the last hour: "quota", "total quota", "trash quota", "disk", "inodes"
	Reason           string   `json:"reason,omitempty"`
}

// healthFresh is how long the count of repositories is kept: counting looks at each directory.
const healthFresh = 10 * time.Second

// healthCache keeps what is dear to find out.
type healthCache struct {
	mu    sync.Mutex // held over one count
	at    time.Time
	repos datadir.Counts
}

// serveHealth answers for the server, also under the prefix of a repository, whether it exists or not. The status
// is 200 as long as the process runs.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	x := stateOf(r)
	x.dialect, x.log.Operation = nil, "health"
	h := health{
		Status: "ok", Version: s.o.Version, UptimeSeconds: int64(s.o.Now().Sub(s.started) / time.Second),
		Short: []string{}, ProtocolVersion: 2, Hashes: []string{"blake2b", "blake3"},
	}
	repos := s.countRepositories()
	if err := s.o.Set.Attached(); err != nil {
		h.Status, h.Detached, repos = "degraded", true, datadir.Counts{}
		h.Reason = "the data directory is missing or not the one that was opened: mount its volume again, and the server continues without a restart; its log says what it found"
	}
	h.Repos, h.AdoptingRepos, h.MissingRepos = repos.There, repos.Adopting, repos.Missing
	kept, own := int64(0), s.o.Set.FileSystem("")
	states, silent := datadir.AskOpened(s.o.Set, stateOfRepository)
	for _, state := range states {
		if state.on == own {
			kept += state.kept
		}
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
		if state.Silent {
			h.SilentRepos++
		}
	}
	if free, total, err := s.o.Set.Space(); err == nil {
		h.DiskFreeBytes, h.DiskTotalBytes, h.DiskFreeWithKept = free, total, free+kept
	}
	if h.SilentRepos += len(silent); len(silent) > 0 {
		h.Status = "degraded"
		h.Reason = "the disk of a repository does not answer: check it, the server's log says which"
	}
	if free, total, err := s.o.Set.Inodes(); err == nil && total > 0 {
		h.DiskFreeInodes = &free
	}
	if h.UnusableRepos = len(s.o.Set.Unusable()); h.UnusableRepos > 0 {
		h.Status = "degraded"
		if h.Reason == "" {
			h.Reason = "a repository cannot be opened: packhouse check says which, why, and what to do, and so does the server's log"
		}
	}
	if h.MissingRepos > 0 {
		h.Status = "degraded"
		if h.Reason == "" {
			h.Reason = "a repository that was here is missing: packhouse repo list says which; mount its volume, or bring its directory back"
		}
	}
	for _, state := range states { // last: anything else is the better reason
		h.addShort(state.short)
	}
	text, err := json.Marshal(h)
	if err != nil {
		WriteText(w, r, http.StatusInternalServerError, InternalError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	WriteBytes(w, r, http.StatusOK, "application/json", text)
}

// repositoryState is what health says of a repository in use.
type repositoryState struct {
	repo.Health
	on    string // its file system
	kept  int64  // bytes that it can give back there: what it keeps after compactions, unless it takes no writes
	short []repo.Shortage
}

func stateOfRepository(_ string, r *repo.Repository) repositoryState {
	s := repositoryState{Health: r.Health(), on: r.FileSystem(), short: r.Short()}
	if !s.ReadOnly {
		s.kept = r.Usage().KeptBytes
	}
	return s
}

// addShort adds that of which a repository has too little. What a quota refuses is nothing that the server suffers from.
func (h *health) addShort(short []repo.Shortage) {
	for _, s := range short {
		if !slices.Contains(h.Short, s.Of) {
			h.Short = append(h.Short, s.Of)
		}
		if s.Of == repo.ShortDisk || s.Of == repo.ShortInodes {
			h.Status = "degraded"
		}
		if h.Reason == "" {
			h.Reason = "a repository is short of " + s.Of + ": " + s.Help
		}
	}
}

// countRepositories is how many repositories there are; zero when the data directory is not there.
func (s *Server) countRepositories() datadir.Counts {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	now := s.o.Now()
	if s.health.at.IsZero() || now.Sub(s.health.at) >= healthFresh {
		counts, err := s.o.Set.Count()
		if err != nil {
			return datadir.Counts{} // and the next to ask looks again
		}
		s.health.at, s.health.repos = now, counts
	}
	return s.health.repos
}
