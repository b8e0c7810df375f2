package vykartest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// Options of New. Base, Transport and Random are required.
type Options struct {
	Base      string // URL of the repository
	Transport http.RoundTripper
	Header    http.Header // added to each request
	Random    *rand.Rand  // for names and nonces; not shared with what runs at the same time
	Cache     *Cache      // of the machine; nil: none, every snapshot is read at each start

	// Who the process is. PID must be one that Alive knows.
	Host   string
	PID    int
	BootID string
	Alive  func(pid int) bool // tells of a process on Host; nil: only this one
	Locks  LockRule

	Now     func() time.Time    // nil means time.Now
	Sleep   func(time.Duration) // nil means time.Sleep
	Retries int                 // after the first try; 0 means 5, of format 1 it means 3; negative: none
	Delay   time.Duration       // before the first retry, doubled for each; 0: none

	Format    int     // of the repository: 2, or 1 for TTL locks, a manifest and whole plans; 0 means 2
	PackSize  int     // bytes at which a pack is closed; 0 means 32 MiB
	Batch     int64   // output bytes of one repack request; 0 means 2 GiB
	Threshold float64 // percent of a pack that must be dead for it to be compacted; 0 means 20
	OneList   bool    // lists packs/ by one request instead of 256
}

// LockRule is which locks of others a client takes for stale.
type LockRule int

const (
	StaleByRule LockRule = iota // those of dead processes of its host, or older than six hours
	StaleNever                  // none
	StaleAlways                 // all of them: its clock is ahead, or another machine has its host name
)

// Cache is what a machine remembers between processes. Its zero value is empty.
type Cache struct {
	snapshots map[string]Snapshot
}

// Client is one process of a client. It is not safe for concurrent use.
type Client struct {
	o    Options
	base string
	sent int // requests, retries too
}

// New makes a process that has sent nothing yet.
func New(o Options) *Client {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = time.Sleep
	}
	if o.Alive == nil {
		self := o.PID
		o.Alive = func(pid int) bool { return pid == self }
	}
	if o.Format == 0 {
		o.Format = 2
	}
	switch {
	case o.Retries < 0:
		o.Retries = 0
	case o.Retries == 0 && o.Format == 1:
		o.Retries = 3
	case o.Retries == 0:
		o.Retries = 5
	}
	if o.PackSize == 0 {
		o.PackSize = 32 << 20
	}
	if o.Batch == 0 {
		o.Batch = 2 << 30
	}
	if o.Threshold == 0 {
		o.Threshold = 20
	}
	if o.Cache == nil {
		o.Cache = new(Cache)
	}
	return &Client{o: o, base: strings.TrimRight(o.Base, "/")}
}

// Sent is how many requests the process has sent, repeated ones too.
func (c *Client) Sent() int { return c.sent }

// ttl tells whether the client is of the generations with TTL locks.
func (c *Client) ttl() bool { return c.o.Format == 1 }

// hex returns 2n random hexadecimal digits.
func (c *Client) hex(n int) string {
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, "%02x", byte(c.o.Random.Uint32()))
	}
	return b.String()
}

// The errors that a command may end with, beside a *StatusError and those of the transport.
var (
	ErrKilled   = errors.New("the client was killed")                            // a transport says so: nothing more is sent
	ErrLocked   = errors.New("the repository is locked")                         // another holds the lock
	ErrLostLock = errors.New("the lock is gone")                                 // found before a write under it
	ErrSessions = errors.New("other sessions are active")                        // maintenance must not begin
	ErrStale    = errors.New("chunks or session vanished; run the backup again") // another's maintenance came between
	ErrMissing  = errors.New("missing from the repository")                      // an object, or a pack that the index names
	ErrUnknown  = errors.New("not in the index")                                 // a chunk that a snapshot refers to
	ErrDamaged  = errors.New("not what was stored")                              // bytes, an answer, or an index
	ErrExists   = errors.New("exists already")                                   // a repository, or a snapshot of that name
)
