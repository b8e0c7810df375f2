// Package stdio carries the BorgStore protocol between a client's stdin and stdout and the process
// that holds the repository. It opens nothing itself: any number of pipes, beside a
// server, work on one repository.
//
// A request that the holder has surely not begun (it said so, or was gone before the
// request was sent, or the request changes nothing) moves to the next holder unseen. A
// request of which that is not sure ends the pipe with ErrLost: for the client that is a lost
// connection, after which it asks again and knows that the first try may have taken effect.
//
// Start reading at Run.
package stdio

import (
	"errors"
	"time"
)

// ErrLost tells that the holder went away with a request.
var ErrLost = errors.New("the process that holds the repository went away during a request")

// ErrInput tells that the client's request is malformed in a way that hides where the next one begins.
var ErrInput = errors.New("malformed request")

// HeaderLeaving is set in a 503 by a holder that is about to end: the request was not begun.
const HeaderLeaving = "X-Packhouse-Leaving"

// PathHello is what a pipe asks first on a connection. A holder answers it with nothing.
const PathHello = "/-/local/hello"

// mediaType is what a BorgStore client accepts; nothing else passes, so that no path of the
// holder's own can be reached through a pipe.
const mediaType = "application/vnd.x.borgstore.rest.v1"

// patience is how long a request is offered to one holder after the other.
const patience = time.Minute

const (
	maxHead    = 64 << 10 // bytes of a request's or response's line and headers
	smallBody  = 64 << 10 // bytes up to which a body is kept, and can be sent twice
	maxUnsized = 1 << 20  // bytes of a response that does not tell its length
)
