package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
)

// table prints rows in columns: aligned for people, with tabs between for others. Rows are printed as they come, for
// people in blocks of blockRows, each aligned by itself.
type table struct {
	w     io.Writer
	align *tabwriter.Writer // nil: nobody looks
	rows  int               // of this block
	fault error             // of writing a block
}

// blockRows are what is held back so that columns can be aligned.
const blockRows = 500

func newTable(w io.Writer, columns ...string) *table {
	t := &table{w: w}
	if isTerminal(w) {
		t.align = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		t.row(columns...)
	}
	return t
}

// row prints one row. What clients chose (names, keys) is shown without control characters.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	w := t.w
	if t.align != nil {
		w = t.align
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
	if t.rows++; t.rows >= blockRows && t.align != nil {
		t.rows = 0
		t.fault = errors.Join(t.fault, t.align.Flush())
	}
}

func (t *table) end() error {
	if t.align == nil {
		return nil
	}
	return errors.Join(t.fault, t.align.Flush())
}

func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, s)
}

// size prints bytes: for people with a unit, else the number.
func (t *table) size(n int64) string {
	if t.align == nil {
		return fmt.Sprint(n)
	}
	return units.BytesSize(float64(n))
}

func (t *table) time(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	if t.align == nil {
		return at.UTC().Format(time.RFC3339)
	}
	return at.Local().Format("2006-01-02 15:04:05")
}

// printJSON prints what the server sent, indented.
func printJSON(w io.Writer, text json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(text), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}
