// Package api is the HTTP server: listeners, authentication, limits, request log, metrics, health and routing, and what the
// wire dialects share. The dialects are packages below api/; they import this package, and never each other.
//
// The steps of a request are: its path is routed (route.go); the dialect may refuse it by its headers (Prechecker); its sender
// is authenticated (auth.go); it waits for one of a limited number of slots; the dialect answers it. Reading the body and
// writing the response have deadlines that are extended while data moves, so there is no limit on the duration of an upload.
//
// Clients define the paths. Paths are routed as they were sent, and are never cleaned, decoded or redirected.
//
// Start reading at Server.ServeHTTP (server.go), and at dialect.go for what a dialect is.
package api
