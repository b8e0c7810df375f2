package api

import (
	"time"

	"golang.org/x/sys/unix"
)

// Limits bounds the resources that clients can make the server use. Zero fields mean the defaults.
type Limits struct {
	HeaderBytes int           // request line and headers; default 64 KiB
	HeaderTime  time.Duration // for the headers of one request; default 30 s
	Idle        time.Duration // between two requests of a connection; default 5 min
	// Stall is how long a body or a response may stand still. V'Ger's clients may pause for
	// 300 s. Default 6 min. There is no limit on the whole.
	Stall time.Duration
	// MinRate is how many bytes a second a client has to send of a body, or to read of a response, on average over all the time
	// that the server waits for it, from ten minutes on. Default 16 KiB; negative: any.
	MinRate     int64
	ItemBytes   int64         // of one item; default 1 GiB
	PlanBytes   int64         // of a JSON body: plans, lists of keys; default 64 MiB
	DrainBytes  int64         // of a refused body that are read so that the client sees the answer; default 1 GiB
	Requests    int           // answered at once; more wait; default 512
	Streams     int           // of events at once, which are not among Requests: see Stream; default 64
	Connections int           // open at once; strangers and idle ones give way to new ones, which else wait; default: see connectionsByFiles
	Wait        time.Duration // for a slot among Requests; then 503; default 25 s, below the 30 s of borg clients
	// Last is how long a stop waits for the next request of a connection whose last one was answered. A client at work
	// sends it within this time, and the answer tells it to open another connection; one that was idle for longer finds its
	// connection closed before it uses it. Default 500 ms.
	Last time.Duration
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.HeaderBytes, 64<<10)
	setDefault(&l.HeaderTime, 30*time.Second)
	setDefault(&l.Idle, 5*time.Minute)
	setDefault(&l.Stall, 6*time.Minute)
	setDefault(&l.MinRate, 16<<10)
	setDefault(&l.ItemBytes, 1<<30)
	setDefault(&l.PlanBytes, 64<<20)
	setDefault(&l.DrainBytes, 1<<30)
	setDefault(&l.Requests, 512)
	setDefault(&l.Streams, 64)
	setDefault(&l.Connections, connectionsByFiles())
	setDefault(&l.Wait, 25*time.Second)
	setDefault(&l.Last, 500*time.Millisecond)
	return l
}

// connectionsByFiles is a quarter of the files that the process may have open, and at most 8192: requests open files too, and
// so do repositories. Go has raised the limit of files to the hard one by then.
func connectionsByFiles() int {
	const least, most = 128, 8192
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return least
	}
	return int(min(max(files.Cur/4, least), most))
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// strangerDrain and strangerWait are how much of a body is read from someone who did not authenticate, and how long.
const (
	strangerDrain = 1 << 20
	strangerWait  = 30 * time.Second
)
