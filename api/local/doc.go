// Package local is the API that only the commands of packhouse use, over the socket of the process that holds a data directory
// or a repository: create, destroy, check, export and back up repositories, salvage damaged items, accept a loss, and ask a holder to end. It
// checks no permissions: a process that can connect to the socket may do everything. Administration over the network is in
// package admin.
//
// Start reading at NewHandler.
package local
