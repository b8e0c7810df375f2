package vger

import (
	"net/http"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"packhouse/api"
	"packhouse/compact"
)

// Name is stored in repositories of this dialect.
const Name = "vger"

// Limits bounds what one request may contain. Zero fields mean the defaults.
type Limits struct {
	Pack        int64 // bytes of a pack; 544 MiB: the clients' limit of 512 MiB and one blob beyond it
	Object      int64 // bytes of any other object; 64 GiB: an index may be larger than any pack
	AdminBody   int64 // bytes of a plan or key list; 512 MiB: clients count a batch by its output, not by its text
	PlanTexts   int64 // bytes of all plans and key lists that are being read or kept at one time; 1 GiB
	BatchKeys   int   // keys of a batch delete; 200,000
	Operations  int   // of a repack plan; 1,000,000: a client has one for every orphaned pack
	KeepBlobs   int   // of one operation; 200,000
	Output      int64 // bytes a repack plan may write; 1 TiB: G1 and G2 put all their work in one plan
	VerifyPacks int   // packs of one verify request; 100
	VerifyBytes int64 // bytes of one verify request; 2 GiB
}

func (l Limits) withDefaults() Limits {
	fill(&l.Pack, 544<<20)
	fill(&l.Object, 64<<30)
	fill(&l.AdminBody, 512<<20)
	fill(&l.PlanTexts, 1<<30)
	fill(&l.BatchKeys, 200_000)
	fill(&l.Operations, 1_000_000)
	fill(&l.KeepBlobs, 200_000)
	fill(&l.Output, 1<<40)
	fill(&l.VerifyPacks, 100)
	fill(&l.VerifyBytes, 2<<30)
	return l
}

func fill[T int | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Options of New. The zero value works, except for repack.
type Options struct {
	Engine *compact.Engine // carries out repack plans; nil: they are refused with 400, as clients repeat a 5xx
	// LockTTL is how long a TTL lock of a repository is held without renewal; nil: one hour.
	LockTTL func(repository string) time.Duration
	Limits  Limits
	// KeepAlive is how long a repack or a verification may stay silent: after it the answer begins
	// with white space, as clients give up on headers that do not come for 300 s. 0 means 15 s.
	KeepAlive time.Duration
	// Readers is how many packs are read at once by all verifications together; 0 means twice the processors.
	Readers int
}

// Dialect serves V'Ger and vykar. It is safe for concurrent use.
type Dialect struct {
	o       Options
	configs configs
	gates   gates
	texts   *semaphore.Weighted // of Limits.PlanTexts bytes
	readers chan struct{}       // a slot for each pack being read by a verification
}

var (
	_ api.Dialect    = (*Dialect)(nil)
	_ api.Challenger = (*Dialect)(nil)
)

// New creates the dialect.
func New(o Options) *Dialect {
	o.Limits = o.Limits.withDefaults()
	if o.LockTTL == nil {
		o.LockTTL = func(string) time.Duration { return time.Hour }
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.Readers == 0 {
		o.Readers = 2 * runtime.GOMAXPROCS(0)
	}
	return &Dialect{o: o, texts: semaphore.NewWeighted(o.Limits.PlanTexts), readers: make(chan struct{}, o.Readers)}
}

// Name implements api.Dialect.
func (d *Dialect) Name() string { return Name }

// Claims implements api.Dialect: it accepts every request that is not BorgStore's.
func (d *Dialect) Claims(r *http.Request) bool {
	return !strings.HasPrefix(r.Header.Get("Accept"), "application/vnd.x.borgstore")
}

// Unauthorized implements api.Challenger.
func (d *Dialect) Unauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	w.Header().Set("WWW-Authenticate", "Bearer")
	api.WriteText(w, r, http.StatusUnauthorized, "invalid or missing token")
}

// Serve implements api.Dialect.
func (d *Dialect) Serve(w http.ResponseWriter, r *http.Request, t api.Target) {
	if t.Log == nil {
		t.Log = new(api.Record)
	}
	x := &request{d: d, w: w, r: r, t: t, key: parsePath(t.Path)}
	x.body = &countingReader{r: r.Body}
	t.Log.Key = x.key.text
	defer x.forgetText(0)
	if err := x.serve(); err != nil {
		x.refuse(err)
	}
}
