// Package alert looks at the state of a server at intervals, and tells its administrators what is wrong with it, and when it is not any more: by
// webhook, by mail, by a command, or by not pinging any longer.
//
// What is wrong is an Alert: it begins with the first look that sees it and ends when several looks have not. Each receiver is told once that it has begun,
// again while it lasts, and once that it is over. A receiver is a goroutine of its own, which compares what is wrong with what it has told: so one that hangs
// or fails delays no other, nothing waits in a queue that could grow, and what could not be delivered is delivered later as it is then.
//
// What was told survives a restart: it is in a file of the server, written behind the deliveries. A crash between the two has a message sent again. No
// message is lost by a crash, as long as what it is about lasts and is seen by a look. The failure of a job is known by the file only: one of the last moment
// before a crash is not told.
//
// A message is delivered when the receiver has said so. If its answer is lost, the message is sent again: it may come twice, and is never lost. To people
// messages are bounded: what happens at the same time is one, and after some within an hour the next one waits.
//
// A look can hang at a disk that does not answer. Deliveries and pings do not wait for it: when it has hung for some time, that is an alert itself.
//
// Start reading at Monitor, then at look.go for what is noticed, and at receiver.go for who is told.
package alert
