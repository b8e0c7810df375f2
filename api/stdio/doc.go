// Package stdio forwards the BorgStore protocol between a client's stdin and stdout and the process that has the repository
// open, the holder. It opens no files of the repository itself, so any number of such processes can use one repository at
// the same time, also while a server runs.
//
// If the holder has certainly not begun a request (it said so, or it ended before the request was sent) or if the request
// changes nothing, the request is sent to the next holder, and the client notices nothing. A request whose body is needed for
// what it does, such as a store, has not begun before the holder has the body; a move or a deletion has, whatever follows its
// head. If it is not certain, the process ends with ErrLost. For the client this is a lost connection: it may send the request
// again, and knows that the first one may have taken effect.
//
// Where there is no repository, requests are answered without a holder: see Absence.
//
// Start reading at Run.
package stdio

import (
	"errors"
	"time"
)

// ErrLost reports that the holder ended during a request.
var ErrLost = errors.New("the process that has the repository open ended during a request")

// ErrInput reports that a request of the client is malformed, so that the start of the next one cannot be found.
var ErrInput = errors.New("malformed request")

// HeaderLeaving is set in a 503 by a holder that is ending: the request was not begun.
const HeaderLeaving = "X-Packhouse-Leaving"

// PathHello is the first request on a connection to a holder. It has no effect.
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
