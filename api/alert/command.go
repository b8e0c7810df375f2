package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command runs a program with the message on its standard input, as JSON, and in its environment.
type command struct {
	args    []string
	environ []string
}

// leftBehind is how long processes that a command has started may have its output open after it has ended.
const leftBehind = time.Second

func (c *command) deliver(ctx context.Context, m Message) error {
	input, err := json.Marshal(m)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	output := &limitedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(append([]string{}, c.environ...),
		"PACKHOUSE_ALERT_EVENT="+m.Event, "PACKHOUSE_ALERT_LEVEL="+string(m.Level), "PACKHOUSE_ALERT_TITLE="+printable(m.Title), "PACKHOUSE_ALERT_TEXT="+fit(printableLines(m.Text), 64<<10))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = leftBehind
	err = cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not end in time", c.args[0])
	}
	if said := strings.TrimSpace(printable(output.String())); said != "" {
		return fmt.Errorf("%s: %w: %s", c.args[0], err, shorten(said, 300))
	}
	return fmt.Errorf("%s: %w", c.args[0], err)
}

// limitedBuffer keeps the beginning of what is written.
type limitedBuffer struct{ b bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	const most = 4 << 10
	l.b.Write(p[:min(len(p), most-l.b.Len())])
	return len(p), nil
}

func (l *limitedBuffer) String() string { return l.b.String() }
