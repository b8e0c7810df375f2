// Package vger serves the REST protocol of V'Ger and vykar, for clients of all versions at once, by the combined rules of the
// protocol description (vger-rest, sections 0 and 1.4):
//
//	G1, G2   TTL locks, format 1, packs without a digest header (G1)
//	G2s      TTL locks, sessions as items
//	G3       locks and sessions as items, format 2
//	G4       BLAKE3, format 3, protocol version 2
//
// A request is translated into calls of one repo.Access, and its outcome into a status. The package decides only what is
// specific to this protocol: which keys exist, which of them are packs, what a plan may contain. The only content that it
// reads is the framing of packs, the first elements of config, and lock documents.
//
// Deliberate differences from the reference servers, as the protocol description recommends: keys are normalized before any rule
// is applied; a pack's name must be the hash of its bytes; identical bytes may be stored again in append-only mode; a missing
// repository is 404 and never 400; a listing fails instead of being incomplete; and permanent errors are 4xx, so that
// clients do not retry for a minute.
//
// Start reading at Dialect.Serve, and from there at request.go.
package vger
