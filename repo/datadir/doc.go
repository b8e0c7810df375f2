// Package datadir is the set of repositories of one data directory: it opens them when they are first asked for, creates and destroys
// them, and says which there are.
//
// It promises that one name is one repository, also while several requests ask for it, while another process has it or while its volume
// is taken away: what is not in its place is given up and opened afresh, and nothing is made in a directory that is not the one that
// was opened. What Create and Destroy have returned holds after a crash; the files of what was destroyed go in the background.
//
// It does not know what is in a repository, nor who asks (repo), nor which process may use the directory (api/holder), but for the
// identity by which that is recognized.
//
// Start reading at Set.Get, then at Set.Create and Set.Destroy; at Set.Attached for directories that come and go.
package datadir
