package main

import "github.com/spf13/cobra"

func benchShow(s streams) *cobra.Command {
	var o benchOutput
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show a stored run as a table or as a page, and compare it with an older one",
		Long: `Prints the tables of a run that "bench store --json FILE" has written.

  packhouse bench show today.json --report today.html
  packhouse bench show today.json --compare last-week.json

Exit codes: 0 shown, 1 failure, 2 wrong command line.`,
		Args: exactly(1, "one file"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			run, err := readRun(args[0])
			if err != nil {
				return err
			}
			return o.write(s.out, run)
		},
	}
	o.add(cmd.Flags())
	if err := cmd.Flags().MarkHidden("json"); err != nil { // it would be a copy
		panic(err) // there is such a flag
	}
	return cmd
}
