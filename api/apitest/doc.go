// Package apitest helps the tests of the dialects: a server on a real listener, and a replayer of
// transcripts that speaks HTTP byte for byte.
//
// A transcript is a text file:
//
//	# What follows is a comment.
//	@ Accept: application/json      a header of all requests from here on; "@ Accept:" takes it away
//	@ reconnect                     the next request uses a new connection
//	> POST /a?cmd=move              a request: method and target as they go onto the wire
//	> Range: bytes=0-4              its headers
//	>> text                         its body: lines are joined by "\n"; none at the end
//	>>= "line\r\n"                  or a Go string literal
//	>>* 1000 x                      or a text so many times
//	< 200                           the answer's status
//	< Content-Length: 5             a header it has; "*" is any value
//	< !Content-Type                 a header it does not have
//	<< text                         its body, in the forms above; without such a line it is empty
//	<<~ ^[0-9a-f]+$                 or a regular expression; an empty one matches any body
//	<ref 500 W15                    the status of the protocol's reference server where its answer is another, and
//	                                why; "none": it gives none; "unsent": it would take the request for several
//
// All requests go over one connection, one after the other, until the server says that it closes it: so
// each also tests that the one before left the connection in step. Every answer must have an exact
// Content-Length. "go test -update" writes what the server really answered into the file.
//
// Start reading at Replay.
package apitest
