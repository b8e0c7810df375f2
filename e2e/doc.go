// Package e2e tests the packhouse program from outside, with the clients that people use: BorgBackup 2, restic, the
// borgstore library, nginx, Caddy, and kill -9. It has no code of its own; the tests are behind the build tag
// e2e because they need those programs (scripts/install-clients.sh) and minutes.
//
//	go test -tags e2e ./e2e
//
// A program that is not installed is a skip, collected in the file that PACKHOUSE_SKIPPED names so that
// `make test` can say it loudly, and a failure when PACKHOUSE_STRICT is set, as in continuous integration.
package e2e
