// Package terminal prints what commands answer: tables, the progress of work, sizes and JSON. Where a person reads, columns are
// aligned and progress is a bar; elsewhere there are tabs, plain numbers and a line now and then, for scripts and logs. It knows
// nothing of what it prints.
//
// Start reading at Table and Progress.
package terminal
