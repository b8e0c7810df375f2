package holder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// reportFD is the descriptor on which a background holder reports how its start went.
const reportFD = 3

// reportVariable tells a holder, in its environment, that Start passed reportFD; without it the descriptor belongs to something else.
const reportVariable = "PACKHOUSE_HOLD_REPORT"

// What a background holder reports, one line.
const (
	reportReady = "ready"
	reportTaken = "taken" // another process holds the repository; ask that one
)

// Start runs program with args as a background holder, in its own session and without the caller's files and secrets. It returns
// nil when the holder is ready, or when another process holds the repository; otherwise the error is what the holder reported.
func Start(ctx context.Context, program string, args ...string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command(program, args...) // not CommandContext: it outlives the caller
	cmd.Args[0] = "packhouse"             // whatever name we were called by
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
	cmd.ExtraFiles = []*os.File{write}
	cmd.Env = append(lasting(os.Environ()), reportVariable+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A descriptor that we were given without asking must not live on in the holder: whoever waits for
	// its end (ssh, a shell's pipe) would wait for the holder's. Kernels before 5.11 refuse; so be it.
	_ = unix.CloseRange(reportFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return fmt.Errorf("start a background process for the repository: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie behind

	stop := context.AfterFunc(ctx, func() { _ = read.Close() })
	defer stop()
	line, err := bufio.NewReader(read).ReadString('\n')
	line = strings.TrimSpace(line)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case line == reportReady, line == reportTaken:
		return nil
	case line != "":
		return errors.New(line)
	}
	return fmt.Errorf("the background process for the repository ended before it was ready: %w", err)
}

// lasting returns the variables that a holder inherits from its first client's environment. The holder outlives that client, so it
// must not have the client's passphrases.
func lasting(environment []string) []string {
	var kept []string
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case name == "PACKHOUSE_TOKEN":
		case name == "PATH", name == "HOME", name == "USER", name == "LOGNAME", name == "LANG", name == "TZ", name == "TMPDIR",
			strings.HasPrefix(name, "LC_"), strings.HasPrefix(name, "GO"), strings.HasPrefix(name, "PACKHOUSE_"):
			kept = append(kept, variable)
		}
	}
	return kept
}

// Report is the holder's side of Start: it reports once how the start went.
type Report struct{ f *os.File }

// OpenReport uses the descriptor that Start passed. Without one, reports are dropped.
func OpenReport() *Report {
	if os.Getenv(reportVariable) == "" {
		return &Report{}
	}
	_ = os.Unsetenv(reportVariable) // not for our own children; fails for malformed names only
	syscall.CloseOnExec(reportFD)
	return &Report{os.NewFile(reportFD, "report")}
}

// Done reports the outcome: nil means ready, a *HeldError that another process was first.
func (r *Report) Done(err error) {
	if r.f == nil {
		return
	}
	line := reportReady
	var held *HeldError
	switch {
	case errors.As(err, &held):
		line = reportTaken
	case err != nil:
		line = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	_, _ = r.f.WriteString(line + "\n") // nobody to tell when the pipe is gone
	_ = r.f.Close()
	r.f = nil
}
