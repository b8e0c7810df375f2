package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// manCommand writes the manual pages that packages install.
func manCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: `Writes a manual page for each command into a directory, which is created if missing: packhouse.1,
packhouse-serve.1 and so on. Their date is that of the variable SOURCE_DATE_EPOCH, if it is set.

  packhouse man /usr/local/share/man/man1`,
		Args: exactly(1, "a DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := rootCommand(s)
			asPages(root)
			err := doc.GenManTreeFromOpts(root, doc.GenManTreeOptions{
				Header:           &doc.GenManHeader{Source: "Packhouse " + version(), Manual: "Packhouse"},
				Path:             args[0],
				CommandSeparator: "-",
			})
			if err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	}
}

// asPages turns the texts of a command, and of those below it, into the Markdown that manual pages are made of.
func asPages(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true // the date of a page is in its header
	cmd.Use, cmd.Short, cmd.Long = escaped(cmd.Use), escaped(cmd.Short), pageText(cmd.Long)
	usage := func(flag *pflag.Flag) {
		_, text := pflag.UnquoteUsage(flag)
		flag.Usage = escaped(text)
	}
	cmd.LocalNonPersistentFlags().VisitAll(usage)
	cmd.PersistentFlags().VisitAll(usage)
	for _, sub := range cmd.Commands() {
		asPages(sub)
	}
}

// pageText is the text of a help as Markdown: its indented lines are examples, which stay as they are.
func pageText(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			b.WriteString("  " + line) // a block of code has four blanks
			continue
		}
		b.WriteString(escaped(line))
	}
	return b.String()
}

// marks are the characters that mean something in Markdown and nothing in a help.
var marks = regexp.MustCompile("[\\\\`*_<\\[\\]|]")

func escaped(text string) string { return marks.ReplaceAllString(text, `\$0`) }
