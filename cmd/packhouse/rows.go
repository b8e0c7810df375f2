package main

import (
	"encoding/json"
	"fmt"

	"packhouse/internal/terminal"
)

// printRows prints the documents of list while they are received, as rows of a table or, with --json, unchanged.
func printRows[T any](
	s streams, f *adminFlags, columns []string,
	list func(each func(T, json.RawMessage) error) error, print func(*terminal.Table, T),
) error {
	if f.json {
		return list(func(_ T, text json.RawMessage) error {
			_, err := fmt.Fprintf(s.out, "%s\n", text)
			return err
		})
	}
	t := terminal.NewTable(s.out, columns...)
	err := list(func(row T, _ json.RawMessage) error {
		print(t, row)
		return nil
	})
	if err != nil {
		return err
	}
	return t.End()
}
