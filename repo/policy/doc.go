// Package policy says what a principal may do in a repository: a table of key prefixes and letters (Permissions), and the
// tables that have a name. A table lies in the file of the clients it is for: borg.go, vger.go.
//
// It promises that a table means the same to each reader of it: there is one spelling of each key (package keys), the row of
// the longest prefix decides alone, and what two tables grant together (Intersect) is what each of them grants.
//
// It does not know who asks, in which repository, and whether the key holds an item. Package repo does, and refuses what
// is not granted (repo.Principal.May, repo.DeniedError); each dialect has a status for that.
//
// Start reading at Permissions.
package policy
