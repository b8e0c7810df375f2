// Package platform does not compile on systems on which the server does not run, so that a build there fails with one clear sentence
// instead of errors about missing names. Packages that use Linux's system calls import it.
package platform
