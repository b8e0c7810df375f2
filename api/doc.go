// Package api is the HTTP server: listeners, authentication, limits, request log, metrics, health
// and routing, and what the wire dialects share. The dialects are packages below; they import this one,
// never each other.
//
// A request passes, in order: its address is routed (route.go), the dialect may refuse it unseen
// (Prechecker), its sender is authenticated (auth.go), it waits for one of a bounded number of
// slots, and the dialect answers. Body and response move under deadlines that end only
// when nothing moves: there is no limit on how long an upload takes.
//
// Paths belong to the clients. They are routed by their raw spelling and are never cleaned,
// decoded or redirected.
//
// Start reading at Server.ServeHTTP (server.go); a dialect is what dialect.go says.
package api
