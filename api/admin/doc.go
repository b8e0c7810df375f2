// Package admin is the administration API of the server, as JSON over HTTP: compaction jobs, and administration of
// repositories. docs/api.md describes every path and value. The package translates between them and the packages below;
// the only decision that it makes is who may send which request.
//
// Paths begin with "/-/" for the server and with "/{repository}/-/" for one repository. If the server serves only a single
// repository, "/-/" is used for both. Errors are problem details (RFC 9457).
//
// Start reading at New.
package admin
