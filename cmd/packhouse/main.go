// Packhouse is a backup storage server for BorgBackup 2 and everything on BorgStore, and for V'Ger and
// vykar. This package is its command line: each verb is one file.
//
// Start reading at run, and at serve.go for the server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes, besides 0. 128 plus the signal's number is the answer to a second signal.
const (
	exitFailure    = 1  // it did not work
	exitUsage      = 2  // the command line is wrong
	exitFound      = 3  // damage was found
	exitRestricted = 83 // a stdio client asked for a repository it may not have; borg's own code
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error // nil: nothing to say
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// streams are where a verb reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line, args[0] being the name it was called by, and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	if name := filepath.Base(args[0]); name == restName || name == resticServerName {
		args = append([]string{args[0], name}, args[1:]...)
	}
	root := rootCommand(streams{in, out, errs})
	root.SetArgs(args[1:])
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := exitFailure
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if text := err.Error(); text != "" {
		for line := range strings.Lines(text) {
			fmt.Fprintf(errs, "packhouse: %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return code
}
