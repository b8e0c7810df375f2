// Package local is the API that only this program's own commands use, over the socket of whoever holds a data directory or a
// repository: create, destroy and check repositories, salvage damaged items, accept a loss, and ask a holder to let go. It
// has no permissions of its own: who may connect to the socket may do all of it. What an administrator asks over the
// network is package admin's.
//
// Start reading at NewHandler.
package local
