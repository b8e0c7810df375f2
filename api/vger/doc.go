// Package vger serves the REST protocol of V'Ger and vykar, all generations at once, as the combined rules of
// the contract say (vger-rest, sections 0 and 1.4):
//
//	G1, G2   TTL locks, format 1, packs without a digest header (G1)
//	G2s      TTL locks, sessions as items
//	G3       locks and sessions as items, format 2
//	G4       BLAKE3, format 3, protocol version 2
//
// A request is translated into calls on one repo.Access and its outcome into a status; what is decided here is
// what only this protocol knows: which keys exist, which of them are packs, what a plan may ask. The one
// content that is read is the framing of packs, the first elements of config, and lock documents.
//
// Differences from the reference servers are deliberate and all in the direction of the contract's
// advice: keys are normalised before any rule is applied, a pack's name must be the hash of its bytes,
// identical bytes may be sent again in append-only mode, a missing repository is 404 and never 400,
// lists fail rather than come out shorter, and permanent failures are 4xx so that clients do not retry for a minute.
//
// Start reading at Dialect.Serve, and from there at request.go.
package vger
