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

// TestSuggestions: a command or flag that does not exist is a wrong command line, and the one that was probably meant is named.
func TestSuggestions(t *testing.T) {
	for _, test := range []struct {
		args, want string
	}{
		{"serv", "did you mean serve?"},
		{"serv --listen :80", "did you mean serve?"},
		{"repo lsit", "did you mean packhouse repo list?"},
		{"trash emtpy laptop", "did you mean packhouse trash empty?"},
		{"token creat --repo x", "did you mean packhouse token create?"},
		{"repo zebra", `unknown command "packhouse repo zebra"; packhouse repo --help lists them`},
		{"help tokn", `unknown command "tokn"; did you mean token?`},
		{"help repo lst", "did you mean packhouse repo list?"},
		{"help repo list extra", `unknown command "packhouse repo list extra"`},
		{"serve --listn :80", "did you mean --listen?"},
		{"repo list --remvoed", "did you mean --removed?"},
		{"repo list --data_dir x", "did you mean --data-dir?"},
		{"check --worker-thread 1", "unknown flag: --worker-thread; see packhouse check --help"},
		{"repo list -x", "unknown shorthand flag: 'x' in -x; see packhouse repo list --help"},
	} {
		code, out, errs := runHere(t, strings.Fields(test.args)...)
		if code != exitUsage || out != "" || !strings.Contains(errs, test.want) {
			t.Errorf("%s: got %d, %s%s, want %q", test.args, code, out, errs, test.want)
		}
	}
}
