// Package client sends the requests of this program's commands: to package admin's API, here or on another machine, and to
// package local's. It turns answers into values, and refusals into errors whose text is the server's.
//
// Start reading at Reach, which finds the process to ask, and at Client.
package client
