// Package maintenance runs the scheduled tasks of a server: scrubs in parts, index snapshots, vacuums of logs, removal of expired locks and of
// old jobs' results. It also starts queued jobs after a restart.
//
// Each task has a schedule, a cron expression in the configured time zone. A run is due at a time of the schedule plus a jitter.
// The jitter differs between repositories, so that they do not all start at once, and is always the same for a repository, so
// that a restart changes nothing. Runs that were missed while the server was down or busy are made up for by a single
// run. One task at a time runs in a repository, and tasks run in at most two repositories of a file system at once.
//
// Start reading at Start, and at round (scheduler.go).
package maintenance
