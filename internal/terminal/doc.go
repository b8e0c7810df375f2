// Package terminal prints the output of commands: tables, progress, sizes and JSON. On a terminal, columns are aligned and progress
// is a bar; in a pipe or a file, columns are separated by tabs, numbers are plain, and progress is an occasional line, for scripts
// and logs. It does not know what it prints.
//
// Start reading at Table and Progress.
package terminal
