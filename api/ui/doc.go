// Package ui shows the repositories of a server to people: pages of HTML below /-/ui/, for the administration API.
//
// It decides nothing and reaches no repository. All that a page shows, and all that a form changes, goes through a request of its own to the
// API, by package client, with the credentials that were given in the login form: see transport. So permissions, the limits of failed
// logins, the request log, the audit log, the slots of requests and the end of tokens are those of every other client. A session in memory
// maps a random cookie to these credentials; it has no rights of its own, and ends with the first request whose credentials are refused.
//
// Nothing is needed but HTML forms. The one script only shows the progress of a job without loading the page again.
//
// Start reading at Handler.
package ui
