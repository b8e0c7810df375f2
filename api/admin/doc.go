// Package admin is Packhouse's own JSON API: compaction jobs, and what an administrator asks of
// repositories. docs/api.md documents every path and shape; this package translates between
// them and the packages below, and decides only who may ask.
//
// Paths are "/-/…" for the server and "/{repository}/-/…" for one repository; of a server
// that is one repository "/-/…" is both. Errors are problem details (RFC 9457).
//
// Start reading at New.
package admin
