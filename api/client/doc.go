// Package client sends the requests of the commands of packhouse: to the API of package admin, on this machine or another one,
// and to the API of package local. It decodes answers into values, and turns error answers into errors with the server's text.
//
// Start reading at Reach, which finds the process to ask, and at Client.
package client
