package compact

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// State of a job.
type State string

// A job is queued, then running, then in one of the other states. After a restart a running job starts from the beginning.
//
// Unknown is no state of a row: the disk failed in the commit of the plan, which has the row that says done. So whether that row
// or the one that says running is there when the repository is opened again tells whether the plan was carried out.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Unknown   State = "unknown"
)

// Ended reports whether the state is final, as long as the repository is open.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled || s == Unknown }

// Kind of a job.
type Kind string

const (
	Compaction Kind = "compaction"
	Scrub      Kind = "scrub"
	Vacuum     Kind = "vacuum"
)

// Job is the readable part of a job's row, with its current progress. Its JSON form is that of the API, see docs/api.md.
type Job struct {
	ID        string    `json:"id"`
	Kind      Kind      `json:"kind"`
	State     State     `json:"state"`
	Principal string    `json:"principal,omitempty"`
	When      string    `json:"when,omitempty"` // as asked for: "now", "window" or a time; empty: a client waits for it
	Created   time.Time `json:"created,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	Progress  Progress  `json:"progress"`
	Fault     *Fault    `json:"error,omitempty"`   // of a failed one, or one of which it is not known
	Damaged   []string  `json:"damaged,omitempty"` // of a scrub: the first hundred keys found damaged
	Bad       int64     `json:"bad,omitempty"`     // of a scrub: items found damaged; of a vacuum, items that cannot be read
	Share     float64   `json:"share,omitempty"`   // of a scrub: the part to read; 0: all

	// PlanBytes is what the plan takes of the disk while the job waits.
	PlanBytes int64 `json:"plan_bytes,omitempty"`
	// Permissions are the principal's, as text, for a job that outlives a restart, and Trusted tells that its name is
	// none that the configuration knows, see Engine.Submit.
	Permissions string `json:"-"`
	Trusted     bool   `json:"-"`
	// Lock is that under which a result of RunOpen is given again.
	Lock string `json:"-"`
	// Opened is how many items stayed as the sources of its open plan when it was done.
	Opened int64 `json:"-"`
}

// Progress of a job. The totals are known after the plan has been checked against the index.
type Progress struct {
	Operations      int64 `json:"operations"` // done; of a scrub: items; of a vacuum: segments
	OperationsTotal int64 `json:"operations_total"`
	Read            int64 `json:"bytes_read"`
	ReadTotal       int64 `json:"bytes_read_total"`
	Written         int64 `json:"bytes_written"`
	Freed           int64 `json:"bytes_freed"` // sizes of the items deleted; of a V'Ger repack, of those that it called unused; of a vacuum, of segments
}

// Fault is why a job failed.
type Fault struct {
	Message   string `json:"message"`
	Operation *int   `json:"operation,omitempty"` // zero-based, of the plan
	Range     *int   `json:"range,omitempty"`     // zero-based, of the operation
	Key       string `json:"key,omitempty"`
}

// Job row, format 1:
//
//	version u8 = 1 | length of the header, varint | header, JSON | result, when the state is done
//
// The header is what lists show; the result is there for a repeated plan. See result.
const jobVersion = 1

// jobHeader is the Job with what the API does not show.
type jobHeader struct {
	Job
	Permissions string `json:"permissions,omitempty"`
	Trusted     bool   `json:"trusted,omitempty"`
	Lock        string `json:"lock,omitempty"`
	Opened      int64  `json:"opened,omitempty"`
}

func encodeJob(j Job, res *result) []byte {
	text, err := json.Marshal(jobHeader{j, j.Permissions, j.Trusted, j.Lock, j.Opened})
	if err != nil {
		panic(err) // plain fields always encode
	}
	b := binary.AppendUvarint([]byte{jobVersion}, uint64(len(text)))
	b = append(b, text...)
	if res != nil {
		b = res.encode(b)
	}
	return b
}

// decodeJob returns the job and its encoded result.
func decodeJob(b []byte) (j Job, rest []byte, err error) {
	r := &reader{b: b}
	if v := r.byte(); r.err == nil && v != jobVersion {
		return j, nil, fmt.Errorf("job row: unknown version %d", v)
	}
	text := r.bytes(r.count())
	if r.err != nil {
		return j, nil, errResult
	}
	var h jobHeader
	if err := json.Unmarshal(text, &h); err != nil {
		return j, nil, fmt.Errorf("job row: %w", err)
	}
	h.Job.Permissions, h.Job.Trusted, h.Job.Lock, h.Job.Opened = h.Permissions, h.Trusted, h.Lock, h.Opened
	return h.Job, r.b, nil
}
