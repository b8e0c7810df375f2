package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// RunVersion is the version of the JSON form of a Run. It is increased when a field changes its meaning or is removed; a new field
// that may be missing does not change it. Version 2 has seconds and bytes in each summary, and names of times that say so.
const RunVersion = 2

// Run has all results of one run of the bench: a value that is printed, stored as JSON, shown as a report and compared with another.
type Run struct {
	Version   int           `json:"version"` // RunVersion
	Program   string        `json:"program"` // release of the packhouse that was measured
	Started   time.Time     `json:"started"`
	Seconds   float64       `json:"seconds"` // from the start to the end of the run
	Settings  Settings      `json:"settings"`
	Machine   Machine       `json:"machine"`
	Servers   []ServerInfo  `json:"servers"`   // in the order of a table: Packhouse, the floor, peers
	Workloads []WorkloadRun `json:"workloads"` // in the order in which they ran
	// Disturbed says why the figures of the whole run are in doubt; none: they are not.
	Disturbed []string `json:"disturbed,omitempty"`
	// Incomplete says why the run ended before its last workload, such as by an interrupt.
	Incomplete string `json:"incomplete,omitempty"`
}

// Settings are the options of the run.
type Settings struct {
	Mode   string   `json:"mode"` // quick, default or long
	Rounds int      `json:"rounds"`
	Only   []string `json:"only,omitempty"` // none: every workload of the mode
	// Scale is the factor for the number of requests and items and for the seconds of a mixed load; 1 but in tests.
	Scale float64 `json:"scale"`
}

// Machine describes the machine, on which the figures depend.
type Machine struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Kernel     string `json:"kernel"`
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     int64  `json:"memory"`      // bytes
	FileSystem string `json:"file_system"` // of the scratch directory: type and mount options
	DiskFree   int64  `json:"disk_free"`   // bytes, before the run
	GoVersion  string `json:"go_version"`
}

// ServerInfo describes one of the servers that are compared.
type ServerInfo struct {
	Name    string `json:"name"`              // unique in a run, such as packhouse-vger
	Dialect string `json:"dialect"`           // borgstore, vger, restic or floor
	Version string `json:"version,omitempty"` // as the program says it
	// Command is how the server was started, such as for a reader to repeat it: paths and secrets replaced by words.
	Command string `json:"command,omitempty"`
	// Durable says that a write is on stable storage before it is acknowledged.
	Durable bool `json:"durable"`
	// NeverSyncs says of a server that is not durable that it does not sync after the answer either.
	NeverSyncs bool `json:"never_syncs,omitempty"`
	// Floor marks the bare server that does the least that must be done.
	Floor bool   `json:"floor,omitempty"`
	Notes string `json:"notes,omitempty"` // how it syncs, and what else a reader must know
}

// WorkloadRun is one workload with the results of each server.
type WorkloadRun struct {
	Name  string `json:"name"`  // as in --only, unique in a run, such as put8k@64
	Kind  string `json:"kind"`  // put, get, range, list, delete, batchdelete, compact, mixed, open: workloads of one kind differ by the next four
	Title string `json:"title"` // one line, for people

	Size        int64 `json:"size,omitempty"`  // bytes of an item
	Connections int   `json:"connections"`     // requests under way at a time
	Items       int64 `json:"items,omitempty"` // in the repository beforehand: the x axis of a growth curve
	TLS         bool  `json:"tls,omitempty"`

	Measure Measure     `json:"measure"`         // the headline figure
	Curve   string      `json:"curve,omitempty"` // workloads with the same curve are points of one growth curve over Items
	Cache   string      `json:"cache"`           // state of the page cache, in words
	Floor   string      `json:"floor,omitempty"` // what the floor does in this workload, in words
	Servers []ServerRun `json:"servers"`         // in the order of Run.Servers; one that was not measured has Skipped
	// Disturbed says why these figures are in doubt: other load on the machine.
	Disturbed []string `json:"disturbed,omitempty"`
}

// ServerRun has the results of one server in one workload.
type ServerRun struct {
	Server  string   `json:"server"`            // name of a ServerInfo
	Skipped string   `json:"skipped,omitempty"` // why it was not measured, such as a peer that knows no such request
	Samples []Sample `json:"samples,omitempty"` // one a round
	// Summaries has one entry for each Measure that the samples have a value of.
	Summaries []Summary `json:"summaries,omitempty"`
	// Disturbed says why this server's figures are in doubt, such as a spread above a third.
	Disturbed []string `json:"disturbed,omitempty"`
}

// Sample is one measurement: one server, one workload, one round.
type Sample struct {
	Round      int         `json:"round"`    // from 1
	Position   int         `json:"position"` // from 1: this server's place in the order of the round
	Seconds    float64     `json:"seconds"`  // of the measured part, without preparation
	Operations []Operation `json:"operations"`
	Server     CPU         `json:"server_cpu"`    // of the server process and its children, in the measured part
	Generator  CPU         `json:"generator_cpu"` // of the process that sends the requests
	PeakRSS    int64       `json:"peak_rss"`      // bytes; of the server process, from its start to the end of the sample
	// OtherLoad is how many cores other processes of the machine used meanwhile; negative where the system does not say.
	OtherLoad float64   `json:"other_load"`
	Timeline  *Timeline `json:"timeline,omitempty"` // of a mixed load
}

// Operation has the results of requests of one kind in a sample.
type Operation struct {
	Name     string    `json:"name"`             // put, get, range, list, delete, batchdelete, compact or open
	Requests int64     `json:"requests"`         // that succeeded
	Items    int64     `json:"items"`            // that they put, read, listed or deleted
	Bytes    int64     `json:"bytes"`            // of items, that they moved
	Failures int64     `json:"failures"`         // requests that failed; they are in no other figure
	Errors   []string  `json:"errors,omitempty"` // of some of the failures, as the generator saw them
	Latency  Histogram `json:"latency"`          // of the successful requests, from sending to the last byte of the answer
}

// CPU is processor time in seconds.
type CPU struct {
	User   float64 `json:"user_seconds"`
	System float64 `json:"system_seconds"`
}

// Total is user and system time together, in seconds.
func (c CPU) Total() float64 { return c.User + c.System }

// Timeline is the course of a mixed load, step by step.
type Timeline struct {
	StepSeconds float64 `json:"step_seconds"`
	Requests    []int64 `json:"requests"` // that ended in each step, successful or not
	// Stalls are the spans of StallSeconds or more in which no request ended, in the order of time.
	Stalls       []Span  `json:"stalls"`
	StallSeconds float64 `json:"stall_seconds"`
	LongestStall float64 `json:"longest_stall_seconds"` // also where it is shorter than StallSeconds
	Beside       []Span  `json:"beside"`                // what ran beside the load: scrub, snapshot, deletes
}

// Span is a part of a Timeline, in seconds from its start.
type Span struct {
	Name    string  `json:"name,omitempty"`
	At      float64 `json:"at_seconds"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

// ReadRun decodes a Run of this version or an earlier one. A file of a later version is an error. The summaries are made anew of the samples.
func ReadRun(r io.Reader) (*Run, error) {
	run := &Run{}
	text, err := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(text, &struct{ Version *int }{&run.Version})
	}
	if err == nil && run.Version == 1 {
		text, err = renamed(text)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read a run of the bench: %w", err)
	case run.Version < 1 || run.Version > RunVersion:
		return nil, fmt.Errorf("read a run of the bench: it has version %d, this program knows %d", run.Version, RunVersion)
	}
	if err := json.Unmarshal(text, run); err != nil {
		return nil, fmt.Errorf("read a run of the bench: %w", err)
	}
	run.Version = RunVersion
	for i := range run.Workloads {
		for j := range run.Workloads[i].Servers {
			run.Workloads[i].Servers[j].Summarize()
		}
	}
	return run, nil
}

// Write encodes the run in one line.
func (r *Run) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Workload finds a workload by its name.
func (r *Run) Workload(name string) (*WorkloadRun, bool) {
	for i := range r.Workloads {
		if r.Workloads[i].Name == name {
			return &r.Workloads[i], true
		}
	}
	return nil, false
}

// Server returns the results of a server by its name.
func (w *WorkloadRun) Server(name string) (*ServerRun, bool) {
	for i := range w.Servers {
		if w.Servers[i].Server == name {
			return &w.Servers[i], true
		}
	}
	return nil, false
}
