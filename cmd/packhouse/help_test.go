package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp: the help of every command has its exit codes and an example of it, if not in its own text then in that of
// the command above.
func TestHelp(t *testing.T) {
	var look func(cmd *cobra.Command, above string)
	look = func(cmd *cobra.Command, above string) {
		_, help, _ := runHere(t, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		if n := strings.Count(help, "Exit code"); n != 1 {
			t.Errorf("%s --help: exit codes %d times, want once", cmd.CommandPath(), n)
		}
		if !strings.Contains(cmd.Long+above, "\n  "+cmd.CommandPath()) {
			t.Errorf("%s --help: no example", cmd.CommandPath())
		}
		long := cmd.Long
		for _, sub := range cmd.Commands() {
			if !sub.Hidden && sub.IsAvailableCommand() {
				look(sub, long)
			}
		}
	}
	look(rootCommand(streams{}), "")
}
