// Package maintenance runs what a server does by itself: queued jobs taken up after a restart, scrubs in
// parts, index snapshots, vacuums of logs, the end of expired locks and of old jobs' results.
//
// Each task has a schedule, a cron expression in the configured time zone. A run is due at a time of the schedule,
// plus a jitter that differs between repositories, so that they do not all begin at once, and is always
// the same for one, so that a restart changes nothing. What was missed while the server was down or busy
// runs once, not once for each time missed. In a repository one task runs at a time; two repositories have theirs
// at once.
//
// Start reading at Start, and at round (scheduler.go).
package maintenance
