// Package datadir is the set of repositories of one data directory: it opens them when they are first needed, creates and destroys
// them, and lists them.
//
// It promises that a name always leads to one repository, also with concurrent requests, while another process has it open, and while
// its volume is unmounted: a repository that is no longer at its path is closed and opened again, and nothing is created in a
// directory that is not the one that was opened. The effects of Create and Destroy are durable when they return; the files of a
// destroyed repository are removed in the background.
//
// It does not know what is in a repository, nor who sends a request (repo), nor which process may use the directory (api/holder),
// except for the identity by which the directory is recognized.
//
// Start reading at Set.Get, then at Set.Create and Set.Destroy; at Set.Attached for directories that are moved or unmounted.
package datadir
